import { execFile } from "node:child_process";
import { access, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { oneAtATime } from "../../../dev/demo/one-at-a-time.ts";
import { executablesOnPath } from "../../../envoy/executables-on-path.ts";

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

/** Uses npm of the system's Node, as in the Makefile: with the Node that runs the tests, it took minutes on some networks. */
function withSystemNpm(): NodeJS.ProcessEnv {
  const PATH = process.env.PATH?.split(":")
    .filter((one) => !one.endsWith("node_modules/.bin"))
    .join(":");
  return { ...process.env, PATH };
}

/** Installs the clients of `package-lock.json` on first use (a minute). Resolves with a function that returns their paths. */
export async function installClients(): Promise<(specifier: string) => string> {
  if (!(await isInstalled(folder))) {
    process.stderr.write("==> installing other people's MCP clients (a minute, once)\n");
    const done = "node_modules/.package-lock.json";
    const install = `[ ${done} -nt package-lock.json ] || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error`;
    await oneAtATime(join(folder, "package-lock.json"), install, { cwd: folder, env: withSystemNpm() });
  }
  return (specifier) => join(folder, "node_modules", specifier);
}

/** Installs the Python SDK into a separate virtual environment on first use. Resolves with its interpreter. */
export async function installPythonSdk(): Promise<string> {
  return join(
    await environment(join(folder, ".venv"), join(folder, "requirements.txt"), "the MCP SDK for Python"),
    "python",
  );
}

/** The programs of `make clients`, and their folders. */
export interface LongClients {
  /** Programs of npm packages: Claude Code, Codex, Gemini CLI, opencode, supergateway. */
  readonly npm: string;
  readonly fastmcp: string;
  readonly mcpProxy: string;
  /** The programs of `go/` and `rust/`; undefined: Go or Rust is not installed. */
  readonly go?: string;
  readonly rust?: string;
}

const long = join(folder, "long");

/** Installs the programs of `make clients` into `long/` on first use (five minutes, 2 GB, mostly for Rust). */
export async function installLongClients(): Promise<LongClients> {
  if (!(await isInstalled(long))) {
    process.stderr.write(
      "==> installing Claude Code, Codex, Gemini CLI, opencode, supergateway (a minute or two, once)\n",
    );
    // Not `ci`, which requires the programs of opencode for all platforms in the lock file: not every registry has them.
    await run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: long,
      env: withSystemNpm(),
    });
  }
  const installed = join(long, ".installed");
  await mkdir(installed, { recursive: true });
  const [go, cargo] = [executablesOnPath("go")[0], executablesOnPath("cargo")[0]];
  const goClient = join(installed, "go-client");
  if (go) {
    if (!(await there(goClient)))
      process.stderr.write("==> building the client of the Go SDK (a minute, once)\n");
    await run(go, ["build", "-mod=readonly", "-o", goClient, "."], { cwd: join(folder, "go") });
  }
  const rustTarget = join(installed, "rust");
  const rustClient = join(rustTarget, "debug", "real-client");
  if (cargo) {
    if (!(await there(rustClient)))
      process.stderr.write("==> building the client of the Rust SDK (two or three minutes, once)\n");
    const env = { ...process.env, CARGO_TARGET_DIR: rustTarget };
    await run(cargo, ["build", "--quiet", "--locked"], { cwd: join(folder, "rust"), env });
  }
  return {
    npm: join(long, "node_modules", ".bin"),
    fastmcp: await environment(join(installed, "fastmcp"), join(long, "fastmcp.txt"), "FastMCP"),
    mcpProxy: await environment(join(installed, "mcp-proxy"), join(long, "mcp-proxy.txt"), "mcp-proxy"),
    ...(go && { go: goClient }),
    ...(cargo && { rust: rustClient }),
  };
}

/** A virtual environment at `at` with the packages that `requirements` pins. Resolves with its folder of programs. */
export async function environment(at: string, requirements: string, name: string): Promise<string> {
  const bin = join(at, "bin");
  if (!(await there(join(at, "installed")))) {
    process.stderr.write(`==> installing ${name} (a minute, once)\n`);
    // Only a part is loaded: Python compiles that on demand.
    const pip = "-m pip install --quiet --disable-pip-version-check --no-compile";
    const install = `[ -e "$AT/installed" ] || { python3 -m venv "$AT" && "$AT/bin/python" ${pip} -r "$WANTED" && touch "$AT/installed"; }`;
    await oneAtATime(requirements, install, { env: { ...process.env, AT: at, WANTED: requirements } });
  }
  return bin;
}
