import { execFile } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { executablesOnPath } from "../../envoy/executables-on-path.ts";
import { buildContext } from "./checkout-copy.ts";
import { debianRoot, distroless, slim } from "./debian-root.ts";
import { environment, parseCopy, parseDockerfile, type Stage } from "./dockerfile.ts";

const run = promisify(execFile);
const context = join(import.meta.dirname, "../..");

/** The file system of an image, and what its Dockerfile says about running it. */
export interface BuiltImage {
  readonly root: string;
  readonly stage: Stage;
  readonly env: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

/**
 * Runs the steps of the Dockerfile without a container engine: each stage begins as a root of the Debian packages that its base image
 * consists of, `COPY` copies what `.dockerignore` includes, `RUN` runs in that root. The base images themselves are not used: what differs is
 * listed in docs/installation.md.
 */
export async function buildImage(): Promise<BuiltImage> {
  const folder = await mkdtemp(join(tmpdir(), "image-"));
  const close = () => rm(folder, { recursive: true, force: true });
  try {
    const roots = new Map<string, string>();
    const stages = parseDockerfile(readFileSync(join(context, "Dockerfile"), "utf8"));
    for (const [index, stage] of stages.entries()) {
      const root = join(folder, String(index));
      await baseImage(root, stage.from);
      await runSteps(root, stage, roots);
      if (stage.name) roots.set(stage.name, root);
    }
    const stage = stages.at(-1);
    if (!stage) throw new Error("the Dockerfile is empty");
    return { root: join(folder, String(stages.length - 1)), stage, env: environment(stage), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function baseImage(root: string, name: string): Promise<void> {
  if (/^gcr\.io\/distroless\/cc-debian13:nonroot$/.test(name)) return debianRoot(root, "trixie", distroless);
  const [, version] = /^node:([\d.]+)-trixie-slim$/.exec(name) ?? [];
  if (version !== process.versions.node)
    throw new Error(`no root for ${name} with Node.js ${process.versions.node}`);
  await debianRoot(root, "trixie", slim);
  // Where the base image has them: Node.js, its license, npm.
  const node = realpathSync(process.execPath);
  await mkdir(join(root, "usr/local/bin"), { recursive: true });
  await copyFile(node, join(root, "usr/local/bin/node"));
  await chmod(join(root, "usr/local/bin/node"), 0o755);
  await copyFile(
    join(context, `node_modules/node/node_modules/node-linux-${process.arch}/LICENSE`),
    join(root, "usr/local/LICENSE"),
  );
  const modules = join(root, "usr/local/lib/node_modules");
  await mkdir(modules, { recursive: true });
  // npm/bin/npm-cli.js, wherever this machine has it.
  const [npm = "npm"] = executablesOnPath("npm");
  await cp(join(dirname(realpathSync(npm)), ".."), join(modules, "npm"), { recursive: true });
  await run("ln", ["-s", "../lib/node_modules/npm/bin/npm-cli.js", join(root, "usr/local/bin/npm")]);
}

async function runSteps(root: string, stage: Stage, roots: ReadonlyMap<string, string>): Promise<void> {
  let workdir = "/";
  for (const { name, text } of stage.instructions) {
    if (name === "WORKDIR") {
      workdir = text;
      await mkdir(join(root, workdir), { recursive: true });
    } else if (name === "COPY") await copy(root, workdir, text, roots);
    else if (name === "RUN") await runInRoot(root, workdir, text);
  }
}

async function copy(
  root: string,
  workdir: string,
  text: string,
  roots: ReadonlyMap<string, string>,
): Promise<void> {
  const { from, sources, target } = parseCopy(text);
  const origin = from === undefined ? context : roots.get(from);
  if (origin === undefined) throw new Error(`no stage ${from}: COPY ${text}`);
  const destination = target.startsWith("/") ? join(root, target) : join(root, workdir, target);
  for (const source of sources) {
    if (from === undefined && !buildContext.includes(source))
      throw new Error(`.dockerignore excludes ${source}`);
    // A folder's content, or a file, as Docker does.
    const into = target.endsWith("/") ? join(destination, basename(source)) : destination;
    await mkdir(dirname(into), { recursive: true });
    await cp(join(origin, source), into, { recursive: true, verbatimSymlinks: true });
  }
}

/** With this machine's network: names, certification authorities, and what npm has downloaded before. */
async function runInRoot(root: string, workdir: string, command: string): Promise<void> {
  const cache = (await run("npm", ["config", "get", "cache"])).stdout.trim();
  const registry = (await run("npm", ["config", "get", "registry"])).stdout.trim();
  const authorities = "/etc/ssl/certs/ca-certificates.crt";
  for (const file of ["/etc/resolv.conf", "/etc/hosts", authorities].filter(existsSync)) {
    await mkdir(join(root, dirname(file)), { recursive: true });
    await copyFile(file, join(root, file));
  }
  await mkdir(join(root, "root/.npm"), { recursive: true });
  const script = `set -e
mount --bind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/root/.npm"
exec /usr/sbin/chroot "$1" /bin/sh -ec "cd $3; $4"`;
  await run("/usr/bin/unshare", ["--mount", "/bin/sh", "-c", script, "sh", root, cache, workdir, command], {
    maxBuffer: 16 * 1024 * 1024,
    env: {
      PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
      HOME: "/root",
      NODE_EXTRA_CA_CERTS: authorities,
      npm_config_registry: registry,
    },
  });
}
