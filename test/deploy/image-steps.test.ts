import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../dev/demo/free-port.ts";
import { type Program, runProgram } from "../../dev/demo/sidecar.ts";
import { runQuickstart, shellBlocks } from "../docs/quickstart-page.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { gatewayBehavior } from "../system/platforms/behavior/gateway-behavior.ts";
import { type BuiltImage, buildImage } from "./build-image.ts";
import { missingForDebianRoot } from "./debian-root.ts";
import { execForm } from "./dockerfile.ts";
import { fakeDocker, imageProgram } from "./image-program.ts";

const wanted = process.env.IMAGE_STEPS === "1";
const missing = wanted ? missingForDebianRoot() : "make image-steps runs them";
if (missing !== undefined) process.stderr.write(`not tested: the Dockerfile's steps; ${missing}\n`);

describe.skipIf(missing !== undefined)("the image, made by the steps of the Dockerfile", () => {
  let image: BuiltImage;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "image-volume-"));
    image = await buildImage();
  });
  afterAll(async () => {
    await image?.close();
    await rm(folder, { recursive: true, force: true });
  });

  it("has no shell, package manager, npm or yarn, and one Node.js", () => {
    const entries = readdirSync(image.root, { recursive: true, withFileTypes: true });
    const named = (...names: readonly string[]) =>
      entries
        .filter((entry) => !entry.isDirectory() && names.includes(entry.name))
        .map(({ parentPath, name }) => relative(image.root, join(parentPath, name)));
    expect(named("sh", "bash", "dash", "busybox", "apt-get", "dpkg-deb")).toEqual([]);
    expect(named("npm", "npx", "yarn", "corepack", "npm-cli.js")).toEqual([]);
    expect(named("node")).toEqual(["opt/envoy-mcp-auth/lib/node"]);
    expect(existsSync(join(image.root, "opt/envoy-mcp-auth/lib/app/node_modules/typescript"))).toBe(false);
  });

  it("runs any command of the program, with the routes file that the image names by default", async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"));
    const program = imageProgram(image, folder);
    expect(await runProgram(program, ["--version"])).toBe(`${version}\n`);
    await expect(runProgram(program, ["check-config"])).rejects.toMatchObject({
      stderr: expect.stringContaining("/etc/envoy-mcp-auth/routes.yaml:1:1: error: the file cannot be read"),
    });
    expect(execForm(image.stage, "CMD")).toEqual(["serve"]);
  });

  it("docs/quickstart.md works as written with the image, installed by the blocks of docs/installation.md", async () => {
    const docker = await fakeDocker(join(folder, "bin"), image);
    const blocks = shellBlocks("installation.md", "Image").join("\n");
    const before = `set -e\nexport PATH="${docker}:$PATH" HOME="${folder}"\n${blocks}`;
    await runQuickstart(undefined, { before });
  });

  gatewayBehavior(
    "behind an Envoy with the configuration that it generates",
    async (options) => {
      const volume = join(folder, "stack");
      await mkdir(volume);
      return startE2e({ ...options, folder: volume, program: imageProgram(image, volume) });
    },
    {
      more: (running) =>
        insideTheContainer(
          running,
          (command) => imageProgram(image, folder, command),
          () => execForm(image.stage, "HEALTHCHECK"),
        ),
    },
  );
});

function insideTheContainer(
  running: () => E2e,
  inImage: (command: readonly string[]) => Program,
  healthCheck: () => readonly string[],
): void {
  it("runs as user 65532 without other groups, privileges or a writable file system", () => {
    const { pid } = running().sidecar();
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(status).toMatch(/^Uid:\t65532\t65532\t65532\t65532$/m);
    expect(status).toMatch(/^Gid:\t65532\t65532\t65532\t65532$/m);
    expect(status).toMatch(/^Groups:\t *(65532)? *$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    const mounts = readFileSync(`/proc/${pid}/mounts`, "utf8").trim().split("\n");
    const [, , , options = ""] = mounts.find((line) => line.split(" ")[1] === "/")?.split(" ") ?? [];
    expect(options.split(",")).toContain("ro");
  });

  it("its health check passes while it is ready, and fails where nothing listens", async () => {
    const checked = (port: string | number) =>
      runProgram(inImage(healthCheck().map((word) => word.replace("[9090, 8080]", `[${port}]`))));
    await checked(new URL(running().adminUrl).port);
    await expect(checked(await freePort())).rejects.toMatchObject({ code: 1 });
  });
}
