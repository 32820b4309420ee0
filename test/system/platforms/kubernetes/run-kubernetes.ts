import { spawn } from "node:child_process";
import { join } from "node:path";
import { goTool } from "../../../../dev/go-tools.ts";
import { executablesOnPath } from "../../../../envoy/executables-on-path.ts";
import { downloadDefinitions } from "./definitions.ts";

/*
 * `make kubernetes`: builds what is missing, then runs the tests in a network of their own, because pods have fixed ports. Arguments go
 * to Vitest.
 */

for (const tool of ["helm", "kube-apiserver", "kube-controller-manager", "envoy-gateway"] as const)
  if ((await goTool(tool, { build: true })) === undefined)
    throw new Error(`${tool} is built with Go, which is not installed: https://go.dev/dl`);
if (executablesOnPath("etcd").length === 0)
  throw new Error("etcd is missing: apt-get install etcd-server, or https://etcd.io");
// There is no way out of that network.
await downloadDefinitions();

const folder = import.meta.dirname;
const vitest = join(folder, "../../../../node_modules/.bin/vitest");
const config = join(folder, "../../run.config.ts");
const apart = process.getuid?.() === 0 && executablesOnPath("ip").length > 0;
if (!apart)
  process.stderr.write(
    "only the API server's part: running the pods needs root, unshare and ip (iproute2)\n",
  );
const given = process.argv.slice(2);
const files = given.some((one) => one.includes(".run")) ? [] : ["platforms/kubernetes/"];
const line = [vitest, "run", "--config", config];
const [program = "", ...args] = apart
  ? ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...line, ...files, ...given]
  : [...line, "platforms/kubernetes/install.run.ts", ...given];
spawn(program, args, { stdio: "inherit" }).once("exit", (code) => process.exit(code ?? 1));
