import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { executablesOnPath } from "../../envoy/executables-on-path.ts";

const run = promisify(execFile);
const cache = join(import.meta.dirname, "../../.venv/helm");

/**
 * Path of Helm: `$HELM`, else on PATH, else the one built before; `undefined` if there is none (neither npm nor PyPI has it).
 * @param build build it once with Go, if available; takes minutes
 */
export async function helmBinary({ build = false } = {}): Promise<string | undefined> {
  if (process.env.HELM) return process.env.HELM;
  const [onPath] = executablesOnPath("helm");
  if (onPath !== undefined) return onPath;
  const built = join(cache, "helm");
  if (existsSync(built)) return built;
  if (!build || executablesOnPath("go").length === 0) return undefined;
  process.stderr.write("building Helm with Go, once; a few minutes\n");
  const env = { ...process.env, GOBIN: cache };
  await run("go", ["install", "helm.sh/helm/v4/cmd/helm@v4.3.1"], { env, timeout: 900_000 });
  return built;
}
