import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
/** Package lists. */
const cache = join(import.meta.dirname, "../../node_modules/.cache/debian");
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** What `gcr.io/distroless/cc-debian13` consists of (its BUILD files, August 2026); without scripts, a shell or a package manager. */
export const distroless = [
  ...["base-files", "netbase", "tzdata", "tzdata-legacy", "media-types"],
  ...["libc6", "libssl3t64", "libzstd1", "zlib1g", "libgomp1", "libstdc++6", "libgcc-s1", "gcc-14-base"],
];

/** What a shell, npm and tar need, of Debian's slim image. */
export const slim = [
  ...["base-files", "dash", "coreutils", "libc-bin", "sed", "grep", "tar", "gzip", "findutils", "libstdc++6"],
  ...["libacl1", "libattr1", "libc6", "libcap2", "libgcc-s1", "libgmp10", "libpcre2-8-0", "libselinux1"],
  ...["libssl3t64", "libzstd1", "zlib1g", "libsystemd0", "openssl-provider-legacy", "gcc-14-base"],
];

/** Why no root can be made here, and what to install; undefined if it can. */
export function missingForDebianRoot(): string | undefined {
  if (process.getuid?.() !== 0) return "it must run as root (mounts and chroot)";
  if (process.arch !== "x64") return "it is written for x64";
  const needed = ["/usr/bin/apt-get", "/usr/bin/dpkg-deb", "/usr/bin/unshare", "/usr/sbin/chroot", keyring];
  const missing = needed.filter((file) => !existsSync(file));
  if (missing.length === 0) return undefined;
  return `${missing.join(", ")} missing: apt-get install apt dpkg util-linux coreutils debian-archive-keyring`;
}

/**
 * Unpacks Debian packages into `folder`, verified by Debian's signatures, without running their scripts and without their dependencies.
 * @param suite for instance `trixie`
 */
export async function debianRoot(folder: string, suite: string, packages: readonly string[]): Promise<void> {
  const place = join(cache, suite);
  await mkdir(join(place, "lists/partial"), { recursive: true });
  const sources = join(place, "sources.list");
  await writeFile(
    sources,
    `deb [arch=amd64 signed-by=${keyring}] http://deb.debian.org/debian ${suite} main\n`,
  );
  const settings = {
    "Dir::State::lists": join(place, "lists"),
    "Dir::State::status": "/dev/null",
    "Dir::Cache": place,
    "Dir::Etc::SourceList": sources,
    "Dir::Etc::SourceParts": "/dev/null",
    "Acquire::Languages": "none",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    "APT::Sandbox::User": "root",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const archives = join(folder, "archives");
  await mkdir(archives, { recursive: true });
  const apt = (...args: string[]) => run("apt-get", ["-q", ...options, ...args], { cwd: archives });
  await apt("update");
  await apt("download", ...packages);
  const files = await readdir(archives);
  // The first one, base-files, has the symbolic links of /bin and /lib.
  for (const name of packages) {
    const file = files.find((one) => one.startsWith(`${name}_`));
    if (file === undefined) throw new Error(`apt-get did not download ${name}`);
    await run("dpkg-deb", ["-x", join(archives, file), folder]);
  }
  await rm(archives, { recursive: true });
  const present = await readFile(join(folder, "usr/lib/os-release"), "utf8");
  if (!present.includes(`VERSION_CODENAME=${suite}`)) throw new Error(`the root is not of ${suite}`);
}
