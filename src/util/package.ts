import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

function nearest(folder: string): string {
  if (existsSync(join(folder, "package.json"))) return folder;
  const parent = dirname(folder);
  if (parent === folder)
    throw new Error(`the installation is incomplete: there is no package.json above ${import.meta.dirname}`);
  return nearest(parent);
}

/** The folder with package.json and `proto/`: of the checkout, the npm package or the executable. Sources are not as deep in it as what is built. */
export const packageFolder = nearest(import.meta.dirname);

/** The installed version, from package.json. */
export function productVersion(): string {
  const { version }: { version: string } = JSON.parse(
    readFileSync(join(packageFolder, "package.json"), "utf8"),
  );
  return version;
}
