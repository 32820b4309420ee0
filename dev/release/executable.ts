import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, realpathSync } from "node:fs";
import { chmod, copyFile, cp, glob, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";
import { build, entryPoint, root } from "./build.ts";

const run = promisify(execFile);

/** Starts the program from wherever the folder is, also through symbolic links, with nothing on PATH. */
const launcher = `#!/bin/sh
self=$0
while [ -h "$self" ]; do
  link=$(PATH=/usr/bin:/bin readlink "$self")
  case $link in /*) self=$link ;; *) self=\${self%/*}/$link ;; esac
done
case $self in */*) folder=\${self%/*}/.. ;; *) folder=.. ;; esac
exec "$folder/lib/node" "$folder/lib/app/${entryPoint}" "$@"
`;

/** The same in a folder that is never moved: needs neither a shell nor any other program. */
const fixedLauncher = (folder: string) => `#!${folder}/lib/node
import(${JSON.stringify(`${folder}/lib/app/${entryPoint}`)});
`;

/**
 * Makes a folder that runs without Node.js: the Node.js that runs this, what `npm run build` made, the packages of package-lock.json,
 * and a launcher `bin/envoy-mcp-auth`. Not a single executable application of Node.js: it can load one bundled CommonJS script, while
 * PGlite, the gRPC definitions and the migrations are files that are found beside the code. This runs the same files as the npm package.
 * @param folder is replaced
 * @param options.fixed the folder will not be moved, and needs no shell
 */
export async function makeExecutable(folder: string, { fixed = false } = {}): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  const app = join(folder, "lib/app");
  await mkdir(app, { recursive: true });
  await mkdir(join(folder, "bin"));
  for (const name of ["package.json", "package-lock.json", "proto", "dist"])
    await cp(join(root, name), join(app, name), { recursive: true });
  const npm = [
    "ci",
    "--omit=dev",
    "--ignore-scripts",
    "--prefer-offline",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
  ];
  await run("npm", npm, { cwd: app });
  await rm(join(app, "package-lock.json"));
  // Two fifths of the packages; nothing reads them at run time.
  for await (const file of glob("node_modules/**/*.{d.ts,d.mts,d.cts,map}", { cwd: app }))
    await rm(join(app, file));
  const node = realpathSync(process.execPath);
  await copyFile(node, join(folder, "lib/node"));
  await chmod(join(folder, "lib/node"), 0o755);
  await copyFile(nodeLicense(node), join(folder, "LICENSE.node"));
  for (const name of ["LICENSE", "README.md", "CHANGELOG.md"])
    await copyFile(join(root, name), join(folder, name));
  const command = join(folder, "bin/envoy-mcp-auth");
  await writeFile(command, fixed ? fixedLauncher(folder) : launcher);
  await chmod(command, 0o755);
}

function nodeLicense(node: string): string {
  const places = [
    join(dirname(node), "../LICENSE"),
    // The npm package.
    ...globSync("node_modules/node/node_modules/*/LICENSE", { cwd: root }).map((file) => join(root, file)),
  ];
  const found = places.find(existsSync);
  if (found === undefined)
    throw new Error(`the license of Node.js is missing; looked for ${places.join(", ")}`);
  return found;
}

/**
 * Packs a folder of `makeExecutable`, with its checksum beside it.
 * @returns the archive
 */
export async function packExecutable(folder: string): Promise<string> {
  const archive = `${folder}.tar.gz`;
  // The same input makes the same archive; the tar of macOS has no such options.
  const sorted = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"];
  const options = process.platform === "linux" ? sorted : [];
  await run("tar", [...options, "-czf", archive, "-C", dirname(folder), basename(folder)]);
  const digest = createHash("sha256")
    .update(await readFile(archive))
    .digest("hex");
  await writeFile(`${archive}.sha256`, `${digest}  ${basename(archive)}\n`);
  return archive;
}

/** `envoy-mcp-auth-VERSION-linux-x64` */
export async function executableName(): Promise<string> {
  const { name, version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  return `${name}-${version}-${process.platform}-${process.arch}`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { into: { type: "string" }, out: { type: "string", default: "release" } },
  });
  try {
    await build();
    if (values.into !== undefined) await makeExecutable(resolve(values.into), { fixed: true });
    else {
      const folder = join(resolve(values.out), await executableName());
      await makeExecutable(folder);
      process.stdout.write(`${await packExecutable(folder)}\n`);
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
