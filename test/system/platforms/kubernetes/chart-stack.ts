import { execFile } from "node:child_process";
import { existsSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { stringify } from "yaml";
import { type Envoy, envoy } from "../../../../dev/demo/envoy.ts";
import { runProgram, type Sidecar } from "../../../../dev/demo/sidecar.ts";
import type { GatewaySettings } from "../../../../dev/demo/stack.ts";
import { answersOk, untilReady } from "../../../../dev/demo/until-ready.ts";
import { envoyBinary } from "../../../../envoy/envoy-binary.ts";
import { environment, execForm, parseDockerfile } from "../../../deploy/dockerfile.ts";
import { type E2e, type E2eOptions, startE2e } from "../../../support/e2e.ts";
import type { KubernetesApiServer } from "./api-server.ts";
import { chart, type Helm, helmIn } from "./helm.ts";
import { type KubernetesNode, startKubernetesNode } from "./node.ts";
import type { Image, RunningPod } from "./pod.ts";

/** A stack whose sidecar (and, in sidecar mode, Envoy) is what the chart deploys, running as the pod of a real Deployment. */
export interface ChartStack extends E2e {
  readonly helm: Helm;
  /** The values of the release. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The pod of the Deployment. */
  pod(): RunningPod;
}

const root = join(import.meta.dirname, "../../../..");
const repository = "registry.example.com/platform/envoy-mcp-auth";
const privatePort = 9090;

/** What the images contain: what the Dockerfile builds, in `folder`, and Envoy. */
async function images(folder: string): Promise<Record<string, Image>> {
  const target = "/opt/envoy-mcp-auth";
  const built = join(folder, "image");
  if (!existsSync(built)) {
    await promisify(execFile)(process.execPath, [join(root, "dev/release/executable.ts"), "--into", built]);
    const program = join(built, "bin/envoy-mcp-auth");
    writeFileSync(program, readFileSync(program, "utf8").replaceAll(built, target));
  }
  const stage = parseDockerfile(readFileSync(join(root, "Dockerfile"), "utf8")).at(-1);
  if (stage === undefined) throw new Error("the Dockerfile is empty");
  const program: Image = {
    entrypoint: execForm(stage, "ENTRYPOINT"),
    env: environment(stage),
    files: { [target]: built },
  };
  const proxy: Image = {
    entrypoint: ["envoy"],
    files: { "/image/bin/envoy": realpathSync(await envoyBinary()) },
  };
  return { [repository]: program, "envoyproxy/envoy": proxy };
}

/**
 * Installs the chart with the routes file of a stack, runs what the cluster then schedules, and lets the stack's clients reach it.
 * @param options.env.DATABASE_URL is required
 */
export async function startChartStack(
  api: KubernetesApiServer,
  mode: "deployment" | "sidecar",
  options: E2eOptions,
): Promise<ChartStack> {
  const helm = await helmIn(api, `run-${mode}`);
  const node = startKubernetesNode(api, { folder: api.folder, images: await images(api.folder) });
  let values: Record<string, unknown> = {};
  try {
    const stack = await startE2e({
      ...options,
      // In sidecar mode Envoy is in the pod, at the port of its container.
      ...(mode === "sidecar" && { ports: { envoy: { port: 8443 } } }),
      async gateway(settings) {
        values = await install(helm, mode, settings, options.env?.DATABASE_URL ?? "");
        return mode === "sidecar" ? envoyOfThePod() : envoyBefore(settings);
      },
    });
    // Everything is served by the pod.
    await stack.sidecar().close();
    const pod = () => {
      const [found] = node.running().filter(({ name }) => !name.endsWith("-test"));
      if (found === undefined) throw new Error("the pod of the Deployment does not run");
      return found;
    };
    return {
      ...stack,
      ...{ helm, values, pod, adminUrl: `http://127.0.0.1:${privatePort}` },
      sidecar: () => containerOf(pod()),
      async restartSidecar() {
        pod().hold(false);
        await untilPodIsReady(pod());
      },
      async close() {
        await helm.run(["uninstall", "gateway", "--wait"]);
        await stack.close();
        await node.close();
      },
    };
  } catch (error) {
    const logs = logsOf(node);
    await node.close();
    throw new Error(`${error instanceof Error ? error.message : error}\n${logs}`, { cause: error });
  }
}

/** What ran, with the ends of its logs. */
function logsOf(node: KubernetesNode): string {
  try {
    return node
      .running()
      .map((pod) => `${pod.name}:\n${pod.logs().slice(-3_000)}`)
      .join("\n");
  } catch (error) {
    return String(error);
  }
}

/** `helm install --wait`, with everything that the pods refer to. @returns the values */
async function install(helm: Helm, mode: string, settings: GatewaySettings, databaseUrl: string) {
  const { config, folder, ca } = settings;
  const references: Record<string, string> = {};
  const { listen: _listen, database: _database, envoy: _envoy, ...rest } = config;
  const values = {
    mode,
    image: { repository, tag: "0.1.0" },
    replicaCount: 1,
    // Pods share the ports of this machine.
    strategy: { type: "Recreate" },
    config: {
      ...withReferences(rest, references),
      encryption: { keys: [{ kid: "demo", env: "ENCRYPTION_KEY" }] },
      envoy: { upstream_ca: "/etc/envoy-mcp-auth-ca/ca.crt" },
    },
    env: Object.keys(references).map((name) => ({ name, secret: "references", key: name })),
    privateCa: { secret: "company-ca" },
    networkPolicy: { envoy: [{ podSelector: { matchLabels: { app: "envoy" } } }] },
    envoy: { lifecycle: { preStop: { exec: { command: ["sleep", "1"] } } } },
  };
  await helm.secret("envoy-mcp-auth", {
    "database-url": databaseUrl,
    "encryption-key": (await readFile(join(folder, "encryption-key"), "utf8")).trim(),
    credential: settings.envoySecret,
  });
  await helm.secret("references", references);
  await helm.secret("company-ca", { "ca.crt": ca.ca });
  await helm.secret("envoy-mcp-auth-tls", {
    "tls.crt": readFileSync(ca.files.certificate, "utf8"),
    "tls.key": readFileSync(ca.files.key, "utf8"),
  });
  await helm.run(["install", "gateway", chart, "--wait", "--timeout", "2m", "--values", "-"], values);
  return values;
}

/** Secrets may not be in a ConfigMap: each becomes a variable. */
function withReferences(part: unknown, references: Record<string, string>): Record<string, unknown> {
  const replaced = JSON.stringify(part, (key, value: unknown) => {
    if (key !== "client_secret") return value;
    const name = `SECRET_${Object.keys(references).length}`;
    references[name] = String(value);
    return `\${${name}}`;
  });
  return JSON.parse(replaced);
}

function envoyOfThePod(): Envoy {
  const exited = new Promise(() => {});
  return { pid: -1, logFile: "", exited, close: async () => {} };
}

/** An Envoy with the generated configuration, in front of the pod's ports. */
async function envoyBefore({ config, folder, adminPort }: GatewaySettings): Promise<Envoy> {
  const file = join(folder, "before-the-pod.yaml");
  const { envoy_secret } = Object(config.listen);
  const listen = { grpc: "127.0.0.1:50051", http: "127.0.0.1:8080", envoy_secret };
  await writeFile(file, stringify({ ...config, listen }), { mode: 0o600 });
  return envoy({
    bootstrap: await runProgram(undefined, ["envoy-config", "--config", file]),
    folder,
    adminPort,
  });
}

function containerOf(pod: RunningPod): Sidecar {
  const name = "envoy-mcp-auth";
  return {
    ...{ pid: -1, logFile: pod.logFile(name), exited: new Promise(() => {}) },
    kill: (signal) => pod.kill(name, signal),
    async close() {
      pod.hold(true);
      pod.kill(name, "SIGTERM");
      await pod.ended(name);
    },
  };
}

/** Does not stop the pod if it is not. */
async function untilPodIsReady(pod: RunningPod): Promise<void> {
  const { exited, logFile } = containerOf(pod);
  const child = { exited, stop: async () => {} };
  await untilReady(child, "the pod", logFile, () => answersOk(`http://127.0.0.1:${privatePort}/readyz`));
}
