import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { executablesOnPath } from "../../envoy/executables-on-path.ts";

const root = join(import.meta.dirname, "../..");

/** What the image is built from, and the npm package, too: the lines of `.dockerignore` after `*`. */
export const buildContext = readFileSync(join(root, ".dockerignore"), "utf8")
  .trim()
  .split("\n")
  .slice(1)
  .map((line) => line.slice(1));

/** Copies the checkout to `folder` with the packages that are installed here, so that a test can build in it. */
export function copyCheckout(folder: string): void {
  for (const name of buildContext) cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
}

/**
 * A folder for the front of PATH with an `npm` that has done some commands already, such as the `npm ci` of a document's block: the packages are
 * installed. Other commands run.
 */
export function npmSkipping(folder: string, ...done: readonly string[]): string {
  mkdirSync(folder, { recursive: true });
  const [npm = "npm"] = executablesOnPath("npm");
  const cases = done.map((command) => `  "${command}") exit 0 ;;`).join("\n");
  writeFileSync(join(folder, "npm"), `#!/bin/sh\ncase "$*" in\n${cases}\nesac\nexec "${npm}" "$@"\n`);
  chmodSync(join(folder, "npm"), 0o755);
  return folder;
}
