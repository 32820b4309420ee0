import { execFile } from "node:child_process";
import { access, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { oneAtATime } from "../../deploy/demo/one-at-a-time.ts";

const run = promisify(execFile);
const folder = import.meta.dirname;
const there = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/** Whether npm installed into this folder after its lock file was written. */
async function isInstalled(at: string): Promise<boolean> {
  const changed = (name: string) =>
    stat(join(at, name)).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    );
  return (await changed("node_modules/.package-lock.json")) > (await changed("package-lock.json"));
}

/** Installs the clients of `package-lock.json` on first use (a minute). Resolves with a way to their files. */
export async function installClients(): Promise<(specifier: string) => string> {
  if (!(await isInstalled(folder))) {
    process.stderr.write("==> installing other people's MCP clients (a minute, once)\n");
    const done = "node_modules/.package-lock.json";
    const install = `[ ${done} -nt package-lock.json ] || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error`;
    // npm belongs to the system's Node, as in the Makefile: under the one that runs the tests it took minutes on some networks.
    const PATH = process.env.PATH?.split(":")
      .filter((one) => !one.endsWith("node_modules/.bin"))
      .join(":");
    const env = { ...process.env, PATH };
    await oneAtATime(join(folder, "package-lock.json"), install, { cwd: folder, env });
  }
  return (specifier) => join(folder, "node_modules", specifier);
}

/** The Python SDK in a virtual environment of its own, on first use. Resolves with its interpreter. */
export async function installPythonSdk(): Promise<string> {
  const environment = join(folder, ".venv");
  const python = join(environment, "bin", "python");
  if (!(await there(join(environment, "installed")))) {
    process.stderr.write("==> installing the MCP SDK for Python (a minute, once)\n");
    await run("python3", ["-m", "venv", environment]);
    await run(python, [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--disable-pip-version-check",
      "-r",
      join(folder, "requirements.txt"),
    ]);
    await run("touch", [join(environment, "installed")]);
  }
  return python;
}
