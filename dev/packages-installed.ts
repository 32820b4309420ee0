import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

interface LockFile {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}
interface LockedPackage {
  readonly version?: string;
  readonly integrity?: string;
  /** Not installed on every platform. */
  readonly optional?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/**
 * Whether npm has installed the packages of a folder's package-lock.json completely, by whatever command. npm removes
 * node_modules/.package-lock.json first and writes it last: an installation that was stopped has none.
 */
function packagesInstalled(folder: string): boolean {
  try {
    const read = (file: string) => JSON.parse(readFileSync(join(folder, file), "utf8"));
    const locked: LockFile = read("package-lock.json");
    const { "": root, ...wanted } = locked.packages;
    const { packages: installed }: LockFile = read("node_modules/.package-lock.json");
    const manifest: LockedPackage = read("package.json");
    const asked = (of: LockedPackage | undefined) => [of?.dependencies ?? {}, of?.devDependencies ?? {}];
    return (
      isDeepStrictEqual(asked(root), asked(manifest)) &&
      Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
        const there = installed[path];
        if (!there) return optional === true;
        // A package that was removed by hand is still listed.
        const exists = existsSync(join(folder, path, "package.json"));
        return exists && there.version === version && there.integrity === integrity;
      })
    );
  } catch {
    return false;
  }
}

process.exitCode = packagesInstalled(process.cwd()) ? 0 : 1;
