import { execFile, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../../dev/demo/sidecar.ts";
import { executablesOnPath } from "../../envoy/executables-on-path.ts";
import { runQuickstart, shellBlocks } from "../docs/quickstart-page.ts";
import { startE2e } from "../support/e2e.ts";
import { gatewayBehavior } from "../system/platforms/behavior/gateway-behavior.ts";
import { copyCheckout, npmSkipping } from "./checkout-copy.ts";

const run = promisify(execFile);
/** `make package`: packing and installing takes a minute. */
const wanted = process.env.NPM_PACKAGE === "1";
if (!wanted) process.stderr.write("not tested: the npm package; build and test it with: make package\n");
const root = join(import.meta.dirname, "../..");
const { version, engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const routes = `issuer: https://mcp.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
listen: {grpc_authentication: none}
policy: [{allow: {and: [{authenticated_user: true}]}}]
routes: [{from: https://mcp.example.com/notes, to: http://127.0.0.1:1, mcp: {server: {request_headers: {}}}}]
`;

describe.skipIf(!wanted)("the npm package", () => {
  let folder: string;
  let command: string;
  let installed: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "package-"));
    const prefix = join(folder, "prefix");
    const checkout = join(folder, "checkout");
    copyCheckout(checkout);
    const npm = npmSkipping(join(folder, "done"), "ci");
    const [block = ""] = shellBlocks("installation.md", "npm package");
    const { stdout } = await run("bash", ["-c", `set -e\n${block}`], {
      cwd: checkout,
      env: {
        ...process.env,
        PATH: `${npm}:${prefix}/bin:${process.env.PATH}`,
        npm_config_prefix: prefix,
        npm_config_prefer_offline: "true",
        npm_config_audit: "false",
      },
    });
    expect(stdout.trim().split("\n").at(-1)).toBe(version);
    command = join(prefix, "bin/envoy-mcp-auth");
    installed = join(prefix, "lib/node_modules/envoy-mcp-auth");
    // npm and the compiler, on a machine that is busy with other tests.
  }, 600_000);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  describe("the npm package, packed and installed by the block of docs/installation.md into an empty folder", () => {
    it("runs, and knows its version", async () => {
      expect(await runProgram([command], ["--version"])).toBe(`${version}\n`);
    });

    it("checks a routes file in the current folder", async () => {
      await writeFile(join(folder, "envoy-mcp-auth.yaml"), routes);
      const { stdout } = await run(command, ["check-config"], { cwd: folder });
      expect(stdout).toContain("1 route, no errors");
    });

    it("loads a large routes file on a thread of its own", async () => {
      const file = join(folder, "large.yaml");
      await writeFile(file, routes);
      const module = pathToFileURL(join(installed, "dist/src/config/load-on-thread.js")).href;
      const program = `const { loadOnThread } = await import(process.argv[1]);
        const { problems, parsed } = await loadOnThread(process.argv[2], {}, {});
        console.log(JSON.stringify({ problems, origin: parsed?.value.issuer }));`;
      const { stdout } = await run(process.execPath, ["--input-type=module", "-e", program, module, file]);
      expect(JSON.parse(stdout)).toEqual({ problems: [], origin: "https://mcp.example.com" });
    });

    it("installs the versions of the lock file, and no development packages", () => {
      const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
      const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
      const inside = join(installed, "node_modules");
      for (const name of Object.keys(dependencies)) {
        const manifest = JSON.parse(readFileSync(join(inside, name, "package.json"), "utf8"));
        expect([name, manifest.version]).toEqual([name, packages[`node_modules/${name}`].version]);
      }
      const production = (name: string) => packages[`node_modules/${name}`]?.dev !== true;
      for (const name of Object.keys(devDependencies).filter((name) => !production(name)))
        expect([name, existsSync(join(inside, name))]).toEqual([name, false]);
    });

    it("has its sources only in source maps", () => {
      const files = readdirSync(installed, { recursive: true, encoding: "utf8" });
      const own = files.filter((file) => !file.startsWith("node_modules"));
      expect(own.filter((file) => file.endsWith(".ts"))).toEqual([]);
      const main = readFileSync(join(installed, "dist/src/main.js"), "utf8");
      expect(main).toMatch(/^#!\/usr\/bin\/env node\n/);
      const map = JSON.parse(readFileSync(join(installed, "dist/src/main.js.map"), "utf8"));
      expect(map.sourcesContent).toEqual([readFileSync(join(root, "src/main.ts"), "utf8")]);
    });

    const older = executablesOnPath("node").find((node) => {
      const { stdout } = spawnSync(node, ["--version"], { encoding: "utf8" });
      const major = Number.parseInt(stdout.slice(1), 10);
      return major >= 16 && major < 24;
    });
    if (older === undefined)
      process.stderr.write("not tested: an older Node.js, because PATH has none (16 to 23)\n");
    it.runIf(older)("says in one line that an older Node.js is not enough", () => {
      const tried = spawnSync(older ?? "", [join(installed, "dist/src/main.js"), "--version"], {
        encoding: "utf8",
      });
      expect(tried.status).toBe(1);
      expect(tried.stderr).toMatch(
        /^envoy-mcp-auth: Node\.js 24 or newer is required, and this is \d+\.\d+\.\d+ \(\/.+\n$/,
      );
      expect(engines.node).toBe(">=24");
    });
  });

  it("docs/quickstart.md works as written with the npm package", () => runQuickstart([command]));

  gatewayBehavior("the npm package, behind an Envoy with the configuration that it generates", (options) =>
    startE2e({ ...options, program: [command] }),
  );
});
