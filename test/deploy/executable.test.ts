import { execFile, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Program } from "../../dev/demo/sidecar.ts";
import { runQuickstart, shellBlocks } from "../docs/quickstart-page.ts";
import { startE2e } from "../support/e2e.ts";
import { startedWith } from "../support/started-with.ts";
import { gatewayBehavior } from "../system/platforms/behavior/gateway-behavior.ts";
import { npmSkipping } from "./checkout-copy.ts";

const root = join(import.meta.dirname, "../..");
/** What `npm run build:executable` made. */
const archive = process.env.EXECUTABLE && resolve(root, process.env.EXECUTABLE);
if (archive === undefined)
  process.stderr.write("not tested: the executable; build and test it with: make package\n");

describe.skipIf(archive === undefined)(
  "the executable, unpacked by the block of docs/installation.md",
  () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    let folder: string;
    let unpacked: string;
    let command: string;

    beforeAll(async () => {
      const file = archive ?? "";
      folder = await mkdtemp(join(tmpdir(), "executable-"));
      await promisify(execFile)("sha256sum", ["--check", `${basename(file)}.sha256`], { cwd: dirname(file) });
      await symlink(dirname(file), join(folder, "release"));
      const npm = npmSkipping(join(folder, "done"), "ci", "run build:executable");
      const [block = ""] = shellBlocks("installation.md", "Executable");
      const { stdout } = await promisify(execFile)("bash", ["-c", `set -e\n${block}`], {
        cwd: folder,
        env: { PATH: `${npm}:/usr/bin:/bin`, HOME: folder },
      });
      expect(stdout).toBe(`${version}\n`);
      unpacked = join(folder, ".local", basename(file, ".tar.gz"));
      command = join(unpacked, "bin/envoy-mcp-auth");
    });
    afterAll(() => rm(folder, { recursive: true, force: true }));

    const asked = (file: string, env: NodeJS.ProcessEnv) =>
      spawnSync(file, ["--version"], { env, cwd: "/", encoding: "utf8" });

    it.each([
      ["no environment", {}],
      ["an empty PATH", { PATH: "" }],
    ])("runs with %s", (_name, env) => {
      expect(asked(command, env)).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: "" });
    });

    it("runs through absolute and relative symbolic links, and from a folder with spaces", async () => {
      const elsewhere = join(folder, "a folder/bin");
      await mkdir(elsewhere, { recursive: true });
      await symlink(unpacked, join(folder, "a folder/current"));
      await symlink("../current/bin/envoy-mcp-auth", join(elsewhere, "relative"));
      await symlink(join(elsewhere, "relative"), join(elsewhere, "absolute"));
      for (const name of ["relative", "absolute"])
        expect(asked(join(elsewhere, name), {})).toMatchObject({ status: 0, stdout: `${version}\n` });
    });

    it("serves with a heap for its container", () => {
      const { starts } = startedWith(folder, [command], ["serve", "--config", "absent.yaml"]);
      expect(starts).toHaveLength(2);
      expect(starts[1]?.execArgv.join(" ")).toContain("--initial-old-space-size=");
    });

    it("contains the licenses of the product and of Node.js, and no development packages", () => {
      expect(readFileSync(join(unpacked, "LICENSE"), "utf8")).toContain("Apache License");
      expect(readFileSync(join(unpacked, "LICENSE.node"), "utf8")).toContain("Node.js");
      const packages = readdirSync(join(unpacked, "lib/app/node_modules"));
      expect(packages).toContain("koa");
      for (const absent of ["typescript", "vitest", "node"]) expect(packages).not.toContain(absent);
    });

    /** Nothing on PATH: no other Node.js can serve. */
    const program = (): Program => ["/usr/bin/env", "PATH=/nonexistent", command];

    it("docs/quickstart.md works as written with it", () => runQuickstart(program()));

    it("serves an authorized call through Envoy with the embedded database", async () => {
      const stack = await startE2e({ database: "embedded", program: program() });
      try {
        const client = await stack.client("alice");
        const answer = await client.run((mcp) => mcp.callTool({ name: "whoami", arguments: {} }));
        expect(JSON.stringify(answer)).toContain("ally");
      } finally {
        await stack.close();
      }
    });

    gatewayBehavior("with Postgres, behind an Envoy with the configuration that it generates", (options) =>
      startE2e({ ...options, program: program() }),
    );
  },
);
