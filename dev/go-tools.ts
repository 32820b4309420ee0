import { execFile } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { executablesOnPath } from "../envoy/executables-on-path.ts";

const run = promisify(execFile);
const folder = join(import.meta.dirname, "../.tools");

interface Tool {
  /** Names the binary; a binary given this way is used as it is. */
  readonly variable: string;
  readonly package: string;
  readonly module: string;
  readonly version: string;
  /** Of the copies of its own libraries that the module replaces: `go install` refuses modules that replace others. */
  readonly librariesVersion?: string;
  /** A copy on PATH is as good: its version does not matter. */
  readonly anyVersion?: true;
}

const kubernetes = "v1.36.3";
const tools = {
  helm: {
    variable: "HELM",
    module: "helm.sh/helm/v4",
    package: "helm.sh/helm/v4/cmd/helm",
    version: "v4.3.1",
    anyVersion: true,
  },
  "envoy-gateway": {
    variable: "ENVOY_GATEWAY",
    module: "github.com/envoyproxy/gateway",
    package: "github.com/envoyproxy/gateway/cmd/envoy-gateway",
    version: "v1.9.1",
  },
  "kube-apiserver": {
    variable: "KUBE_APISERVER",
    module: "k8s.io/kubernetes",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    version: kubernetes,
    librariesVersion: kubernetes.replace("v1.", "v0."),
  },
  // The same packages as the API server's, which Go has compiled by then.
  "kube-controller-manager": {
    variable: "KUBE_CONTROLLER_MANAGER",
    module: "k8s.io/kubernetes",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    version: kubernetes,
    librariesVersion: kubernetes.replace("v1.", "v0."),
  },
  // Istio's releases are not versions of its module; this commit is of 1.31.
  "pilot-discovery": {
    variable: "PILOT_DISCOVERY",
    module: "istio.io/istio",
    package: "istio.io/istio/pilot/cmd/pilot-discovery",
    version: "v0.0.0-20260827124520-eed52ebb66ad",
  },
} as const satisfies Record<string, Tool>;

/** A program written in Go that neither npm nor PyPI has. */
export type GoTool = keyof typeof tools;

/** The version that is built. */
export const goToolVersion = (name: GoTool): string => tools[name].version;

/**
 * Path of a program: the one that its environment variable names (`$HELM`, `$ENVOY_GATEWAY`, `$KUBE_APISERVER`, ...), else the
 * one built before in `.tools/bin`; `undefined` if there is none.
 * @param build build it once with Go, if available; takes minutes
 */
export async function goTool(name: GoTool, { build = false } = {}): Promise<string | undefined> {
  const tool: Tool = tools[name];
  const given = process.env[tool.variable];
  if (given) return given;
  const [onPath] = tool.anyVersion ? executablesOnPath(name) : [];
  if (onPath !== undefined) return onPath;
  const built = join(folder, "bin", name);
  if (existsSync(built)) return built;
  if (!build || executablesOnPath("go").length === 0) return undefined;
  process.stderr.write(`building ${name} ${tool.version} with Go, once; a few minutes\n`);
  await install(name, tool);
  return built;
}

async function install(name: string, tool: Tool): Promise<void> {
  const bin = join(folder, "bin");
  const env = { ...process.env, GOBIN: bin };
  const timeout = 3_600_000;
  if (tool.librariesVersion === undefined) {
    await run("go", ["install", "-ldflags=-s -w", `${tool.package}@${tool.version}`], { env, timeout });
    return;
  }
  const build = join(folder, "build", name);
  mkdirSync(build, { recursive: true });
  const download = await run("go", ["mod", "download", "-json", `${tool.module}@${tool.version}`], {
    timeout,
  });
  const replaced = [
    ...(await readFile(JSON.parse(download.stdout).GoMod, "utf8")).matchAll(/^\s*(\S+) => \.\//gm),
  ].map(([, path]) => `${path} => ${path} ${tool.librariesVersion}`);
  const lines = [
    "module build",
    `require ${tool.module} ${tool.version}`,
    `replace (\n${replaced.join("\n")}\n)`,
  ];
  writeFileSync(join(build, "go.mod"), `${lines.join("\n")}\n`);
  const version = `-X k8s.io/component-base/version.gitVersion=${tool.version}`;
  await run("go", ["build", "-mod=mod", `-ldflags=-s -w ${version}`, "-o", join(bin, name), tool.package], {
    cwd: build,
    env,
    timeout,
  });
}

if (import.meta.main) {
  for (const name of process.argv.slice(2)) {
    if (!(name in tools)) throw new Error(`unknown program ${name}; known: ${Object.keys(tools).join(", ")}`);
    const path = await goTool(name as GoTool, { build: true });
    if (path === undefined) {
      process.stderr.write(`${name} is built with Go, which is not installed: https://go.dev/dl\n`);
      process.exitCode = 1;
    } else process.stdout.write(`${path}\n`);
  }
}
