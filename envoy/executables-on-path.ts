import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Executables with one of `names` in the folders of PATH, in its order. */
export function executablesOnPath(...names: readonly string[]): string[] {
  const folders = (process.env.PATH ?? "").split(delimiter).filter(Boolean);
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).filter(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
