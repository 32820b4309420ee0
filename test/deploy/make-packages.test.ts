import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "../..");
const manifest = { dependencies: { a: "1.0.0" }, devDependencies: { b: "2.0.0" } };
const packages = {
  "node_modules/a": { version: "1.0.0", integrity: "sha512-a" },
  "node_modules/b": { version: "2.0.0", integrity: "sha512-b", dev: true },
};
const elsewhere = { "node_modules/c": { version: "3.0.0", integrity: "sha512-c", optional: true } };

/** Runs the Makefile's prerequisite of every target. @returns whether it has run `npm ci` */
function installs(given: { installed?: object; manifest?: object; node?: string; gone?: string }): boolean {
  const folder = mkdtempSync(join(tmpdir(), "make-"));
  const json = (file: string, content: object) => writeFileSync(join(folder, file), JSON.stringify(content));
  for (const file of ["Makefile", "dev/packages-installed.ts"]) cpSync(join(root, file), join(folder, file));
  mkdirSync(join(folder, "node_modules/.bin"), { recursive: true });
  json("package.json", { type: "module", ...(given.manifest ?? manifest) });
  json("package-lock.json", { packages: { "": manifest, ...packages, ...elsewhere } });
  if (given.installed) json("node_modules/.package-lock.json", { packages: given.installed });
  for (const path of Object.keys(given.installed ?? {})) {
    if (path === given.gone) continue;
    mkdirSync(join(folder, path));
    json(`${path}/package.json`, {});
  }
  symlinkSync(given.node ?? process.execPath, join(folder, "node_modules/.bin/node"));
  mkdirSync(join(folder, "path"));
  writeFileSync(join(folder, "path/npm"), '#!/bin/sh\necho "$1" >> npm-has-run\n');
  chmodSync(join(folder, "path/npm"), 0o755);
  const make = spawnSync("make", ["node_modules/.stamp"], {
    cwd: folder,
    env: { ...process.env, PATH: `${join(folder, "path")}:${process.env.PATH}` },
    encoding: "utf8",
  });
  expect([make.status, make.stderr]).toEqual([0, ""]);
  expect(existsSync(join(folder, "node_modules/.stamp"))).toBe(true);
  return existsSync(join(folder, "npm-has-run"));
}

describe("a make target installs the npm packages", () => {
  it("not after a plain npm ci, which has left out packages of other platforms", () => {
    expect(installs({ installed: packages })).toBe(false);
  });

  it.each([
    ["there are none, or an installation was stopped", {}],
    ["one is missing", { installed: { "node_modules/a": packages["node_modules/a"] } }],
    ["the folder of one was removed", { installed: packages, gone: "node_modules/b" }],
    ["one has another version", { installed: { ...packages, "node_modules/a": { version: "1.0.1" } } }],
    ["package.json asks for another version", { installed: packages, manifest: { dependencies: {} } }],
    ["the Node.js of the packages does not run", { installed: packages, node: "/nowhere" }],
  ])("if %s", (_, given) => {
    expect(installs(given)).toBe(true);
  });
});
