import { execFile } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { shellBlocks } from "./quickstart-page.ts";

const root = join(import.meta.dirname, "../..");
const { version, engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const page = readFileSync(join(root, "docs/installation.md"), "utf8");

it("the block for a clone of docs/installation.md ends with the version", async () => {
  const [block = ""] = shellBlocks("installation.md", "From a clone");
  const folder = await mkdtemp(join(tmpdir(), "clone-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  // The packages are installed already, as `npm ci` does.
  writeFileSync(join(folder, "npm"), '#!/bin/sh\n[ "$*" = "ci --loglevel=error" ]\n');
  chmodSync(join(folder, "npm"), 0o755);
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}` };
  const { stdout } = await promisify(execFile)("bash", ["-c", `set -e\n${block}`], { cwd: root, env });
  expect(stdout).toBe(`${version}\n`);
});

it("docs/installation.md names the Node.js of package.json and the version of the image", () => {
  expect(page).toContain(`| [npm package](#npm-package) | Node.js ${engines.node.slice(2)} or newer |`);
  const tags = [...page.matchAll(/envoy-mcp-auth:(\d[\w.-]*)/g)].map(([, tag]) => tag);
  expect(new Set(tags)).toEqual(new Set([version]));
});
