import { execFile } from "node:child_process";
import { existsSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { stringify } from "yaml";
import { type Envoy, envoy } from "../../../../dev/demo/envoy.ts";
import { runProgram, type Sidecar } from "../../../../dev/demo/sidecar.ts";
import type { GatewayPlaces } from "../../../../dev/demo/stack.ts";
import { envoyBinary } from "../../../../envoy/envoy-binary.ts";
import { type E2e, type E2eOptions, startE2e } from "../../../support/e2e.ts";
import type { KubernetesApiServer } from "./api-server.ts";
import { chart, type Helm, helmIn } from "./helm.ts";
import { type KubernetesNode, startKubernetesNode } from "./node.ts";
import type { Image, RunningPod } from "./pod.ts";

/** A stack whose sidecar (and, in sidecar mode, Envoy) is what the chart deploys, running as the pod of a real Deployment. */
export interface ChartStack extends E2e {
  readonly helm: Helm;
  readonly node: KubernetesNode;
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
  const place = "/opt/envoy-mcp-auth";
  const built = join(folder, "image");
  if (!existsSync(built)) {
    await promisify(execFile)(process.execPath, [join(root, "dev/release/executable.ts"), "--into", built]);
    const program = join(built, "bin/envoy-mcp-auth");
    writeFileSync(program, readFileSync(program, "utf8").replaceAll(built, place));
  }
  const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
  const [, entrypoint = ""] = /^ENTRYPOINT (.*)$/m.exec(dockerfile) ?? [];
  const variables = dockerfile.matchAll(/^ENV (.*)$/gm);
  const program: Image = {
    entrypoint: JSON.parse(entrypoint),
    env: Object.fromEntries(
      [...variables].flatMap(([, line = ""]) => line.split(" ").map((one) => one.split("=", 2))),
    ),
    files: { [place]: built },
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
      async gateway(places) {
        values = await install(helm, mode, places, options.env?.DATABASE_URL ?? "");
        return mode === "sidecar" ? envoyOfThePod() : envoyBefore(places);
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
      ...{ helm, node, values, pod, adminUrl: `http://127.0.0.1:${privatePort}` },
      sidecar: () => containerOf(pod()),
      async restartSidecar() {
        pod().hold(false);
        await isReady();
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
async function install(helm: Helm, mode: string, places: GatewayPlaces, databaseUrl: string) {
  const { config, folder, ca } = places;
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
    credential: places.envoySecret,
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
async function envoyBefore({ config, folder, adminPort }: GatewayPlaces): Promise<Envoy> {
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

async function isReady(): Promise<void> {
  const ready = () =>
    fetch(`http://127.0.0.1:${privatePort}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  for (const until = Date.now() + 60_000; !(await ready()); await delay(100))
    if (Date.now() > until) throw new Error("the pod is not ready after 60 s");
}
