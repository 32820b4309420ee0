import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build.ts";

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: true; readonly devDependencies?: unknown }>>;
}

/**
 * What users of the package install: exactly the versions that the tests ran with. npm ignores a package's package-lock.json, and
 * observes its npm-shrinkwrap.json.
 * @returns the lock file without development packages
 */
export function shrinkwrap(lock: Lock): Lock {
  const packages = Object.entries(lock.packages)
    .filter(([, { dev }]) => !dev)
    .map(([path, { devDependencies: _, ...rest }]) => [path, rest]);
  return { ...lock, packages: Object.fromEntries(packages) };
}

if (import.meta.main) {
  const file = join(root, "npm-shrinkwrap.json");
  // Only while npm packs: in a checkout it would take precedence over package-lock.json.
  if (process.argv[2] === "remove") rmSync(file, { force: true });
  else {
    const lock: Lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
    writeFileSync(file, `${JSON.stringify(shrinkwrap(lock), null, 2)}\n`);
  }
}
