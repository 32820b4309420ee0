import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load-config.ts";

const readme = readFileSync(join(import.meta.dirname, "../../../README.md"), "utf8");

test("the README's example is a valid routes file", async () => {
  const folder = await mkdtemp(join(tmpdir(), "readme-"));
  const file = join(folder, "routes.yaml");
  await writeFile(file, /```yaml\n(.*?)```/s.exec(readme)?.[1] ?? "", { mode: 0o600 });
  const env = {
    OIDC_CLIENT_SECRET: "one",
    TICKETS_CLIENT_SECRET: "two",
    ENCRYPTION_KEY: "three",
    ENVOY_SECRET: "4".repeat(44),
  };
  const loaded = loadConfig(file, env);
  expect(loaded.problems).toEqual([]);
  expect(loaded.ok && loaded.config.routes.map(({ resource }) => resource)).toEqual([
    "https://notes.example.com",
    "https://mcp.example.com/tickets",
    "https://mcp.example.com/weather",
  ]);
  await rm(folder, { recursive: true });
});

test("every make target the README names exists", () => {
  const makefile = readFileSync(join(import.meta.dirname, "../../../Makefile"), "utf8");
  const named = [...readme.matchAll(/^make ([a-z-]+)/gm)].map(([, target]) => target);
  expect(named).toContain("demo-once");
  for (const target of named) expect(makefile).toMatch(new RegExp(`^${target}:`, "m"));
});
