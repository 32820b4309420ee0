import { execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { composeErrors } from "../support/compose-errors.ts";
import { buildContext, copyCheckout } from "./checkout-copy.ts";
import { execForm, parseCopy, parseDockerfile, type Stage } from "./dockerfile.ts";

const root = join(import.meta.dirname, "../..");
const stages = parseDockerfile(readFileSync(join(root, "Dockerfile"), "utf8"));
const copied = stages
  .flatMap(({ instructions }) => instructions)
  .filter(({ name }) => name === "COPY")
  .map(({ text }) => parseCopy(text))
  .flatMap(({ from, sources }) => (from === undefined ? sources : []));

function lastStage(): Stage {
  const last = stages.at(-1);
  if (!last) throw new Error("the Dockerfile is empty");
  return last;
}

describe("the image", () => {
  it("is built in two stages; the last runs no shell, as an unprivileged user, with a health check", () => {
    expect(stages.length).toBe(2);
    const last = lastStage();
    const written = (name: string) =>
      last.instructions.filter((one) => one.name === name).map(({ text }) => text);
    expect(written("RUN")).toEqual([]);
    expect(written("USER")).toEqual(["65532:65532"]);
    expect(written("COPY")).toEqual(["--from=build /opt/envoy-mcp-auth /opt/envoy-mcp-auth"]);
    expect(execForm(last, "ENTRYPOINT")).toEqual(["envoy-mcp-auth"]);
    expect(execForm(last, "CMD")).toEqual(["serve"]);
    expect(execForm(last, "HEALTHCHECK").join(" ")).toContain("/readyz");
    expect(JSON.stringify(stages)).not.toMatch(/SECRET|TOKEN|PASSWORD/);
  });

  it("is healthy while either port reports readiness, such as the public one if the private one answers https only", async () => {
    const statuses = [503, 503];
    const ports = await Promise.all(
      statuses.map(async (_, index) => {
        const server = createServer((request, response) => {
          response.statusCode = request.url === "/readyz" ? (statuses[index] ?? 500) : 404;
          response.end();
        });
        await once(server.listen(0, "127.0.0.1"), "listening");
        onTestFinished(() => void server.close());
        return Object(server.address()).port;
      }),
    );
    const [, ...args] = execForm(lastStage(), "HEALTHCHECK").map((word) =>
      word.replace("[9090, 8080]", JSON.stringify(ports)),
    );
    const healthy = () =>
      promisify(execFile)(process.execPath, args).then(
        () => true,
        () => false,
      );
    expect(await healthy()).toBe(false);
    statuses[1] = 200;
    expect(await healthy()).toBe(true);
    statuses.reverse();
    expect(await healthy()).toBe(true);
  });

  it("is built with the Node.js of the tests", () => {
    const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    expect(stages[0]?.from).toBe(`node:${devDependencies.node}-trixie-slim`);
  });

  it("copies existing files that .dockerignore includes, which includes nothing else", () => {
    for (const source of copied) expect([source, existsSync(join(root, source))]).toEqual([source, true]);
    expect(copied.toSorted()).toEqual(buildContext.toSorted());
    expect(readFileSync(join(root, ".dockerignore"), "utf8")).toMatch(/^\*\n(!.+\n)+$/);
  });

  it("needs only what it copies, and no development packages", async () => {
    const folder = await mkdtemp(join(tmpdir(), "image-"));
    copyCheckout(folder);
    await promisify(execFile)(process.execPath, ["dev/release/build.ts"], { cwd: folder });
    const { stdout } = await promisify(execFile)(join(folder, "dist/src/main.js"), ["--help"]);
    expect(stdout).toContain("serve");
    await rm(folder, { recursive: true });
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const files = ["src", "migrations"].flatMap((part) =>
      readdirSync(join(root, part), { recursive: true, encoding: "utf8" }).map((file) =>
        join(root, part, file),
      ),
    );
    const imported = files
      .filter((file) => file.endsWith(".ts"))
      .flatMap((file) => [
        ...readFileSync(file, "utf8").matchAll(
          /^(?!import type).*(?:from |import\()"((?:@[\w-]+\/)?[\w.-]+)(?:\/[^"]*)?"/gm,
        ),
      ])
      .map(([, name]) => name ?? "");
    const missing = new Set(imported.filter((name) => !name.startsWith(".") && !(name in dependencies)));
    expect([...missing].filter((name) => name !== "node")).toEqual([]);
  });
});

describe("Compose", () => {
  const compose = join(root, "deploy/compose");

  it("matches the Compose Specification", () => {
    // Newer than the schema in the package.
    const { name, ...described } = parse(readFileSync(join(compose, "compose.yaml"), "utf8"));
    expect(name).toMatch(/^[a-z-]+$/);
    expect(composeErrors(described)).toBe("No errors");
  });

  it("has a valid routes file, whose secrets are all required", () => {
    const text = readFileSync(join(compose, "routes.yaml"), "utf8");
    const given = readFileSync(join(compose, "compose.yaml"), "utf8");
    const names = [...text.matchAll(/\$\{(\w+)\}/g)].map(([, name]) => name ?? "");
    for (const name of names) expect(given).toContain(`\${${name}:?`);
    const env = Object.fromEntries(names.map((name) => [name, "x".repeat(44)]));
    expect(
      loadConfig(join(compose, "routes.yaml"), env, { listeners: {} }).problems.map(formatProblem),
    ).toEqual([]);
  });
});
