import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Supervised } from "../../../../dev/demo/supervise.ts";
import type { KubernetesObject } from "../../../deploy/manifests.ts";
import type { KubernetesClient } from "./client.ts";
import { type ContainerSpec, type Image, runContainer } from "./container.ts";
import { dataOf, type Volume, writeVolume } from "./volumes.ts";

export type { Image } from "./container.ts";

/** Ports by number. */
type Probe = { httpGet?: { path: string; port: number }; tcpSocket?: { port: number } };

/** A pod whose containers run here. */
export interface RunningPod {
  readonly name: string;
  /** Output of all containers so far. */
  logs(): string;
  logFile(container: string): string;
  /** Sends a signal to a container; it is restarted when it has ended, unless `hold` was called. */
  kill(container: string, signal: NodeJS.Signals): void;
  /** Until a container has ended, or has not started yet. */
  ended(container: string): Promise<unknown>;
  /** While it holds, ended containers are not restarted. */
  hold(on: boolean): void;
  refreshVolumes(): Promise<void>;
  status(ready: (probe: Probe) => Promise<boolean>): Promise<object>;
  /** The last status that the API server got. */
  reported?: string;
  /** preStop hooks and SIGTERM, after the grace period SIGKILL. */
  stop(graceMs?: number): Promise<void>;
}

/** As far as this node knows it. */
export interface PodSpec {
  readonly containers: readonly (ContainerSpec & { readonly env?: readonly EnvVar[] })[];
  readonly initContainers?: PodSpec["containers"];
  readonly volumes?: readonly Volume[];
  readonly restartPolicy?: "Always" | "Never";
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext?: { runAsUser?: number; runAsGroup?: number; fsGroup?: number };
}
interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly secretKeyRef?: { name: string; key: string } };
}
interface Running {
  child: Supervised;
  ended?: number;
  starts: number;
}

/** Starts the init containers of a pod one after another, then its containers; returns before they have started. */
export async function startPod(
  api: KubernetesClient,
  pod: { name: string; namespace: string; spec: PodSpec },
  options: { readonly folder: string; readonly images: Readonly<Record<string, Image>> },
): Promise<RunningPod> {
  const { spec } = pod;
  const { folder, images } = options;
  mkdirSync(folder);
  const fsGroup = spec.securityContext?.fsGroup ?? 0;
  const volumes: Record<string, string> = {};
  const refreshVolumes = async () => {
    for (const volume of spec.volumes ?? []) {
      volumes[volume.name] = join(folder, `volume-${volume.name}`);
      await writeVolume(api, pod.namespace, volume, volumes[volume.name] ?? "", fsGroup);
    }
  };
  await refreshVolumes();
  const running = new Map<string, Running>();
  let stopping = false;
  let holding = false;
  let initialized = false;
  let failed: string | undefined;

  async function start(container: PodSpec["containers"][number]): Promise<Running> {
    const repository = container.image.replace(/@.*$/, "").replace(/:[^:/]*$/, "");
    const image = images[repository];
    if (image === undefined) throw new Error(`${pod.name}: no image ${repository}`);
    const known = running.get(container.name);
    const own = join(folder, container.name);
    mkdirSync(own, { recursive: true });
    const child = runContainer(container, {
      ...{ image, volumes, folder: own, logFile: join(folder, `${container.name}.log`) },
      env: await environment(api, pod.namespace, container.env ?? []),
      securityContext: spec.securityContext ?? {},
      hosts: await hostsFile(api, pod.namespace),
    });
    const one: Running = { child, starts: (known?.starts ?? 0) + 1 };
    running.set(container.name, one);
    void child.exited.then(async ({ code }) => {
      one.ended = code ?? 1;
      if (spec.restartPolicy === "Never" || !initialized) return;
      await delay(500);
      while (holding && !stopping) await delay(50);
      if (!stopping && running.get(container.name) === one) await start(container);
    });
    return one;
  }
  const begin = (async () => {
    for (const container of spec.initContainers ?? []) {
      while (!stopping) {
        const { child } = await start(container);
        if ((await child.exited).code === 0) break;
        await delay(1_000);
      }
    }
    if (stopping) return;
    initialized = true;
    for (const container of spec.containers) await start(container);
  })();
  begin.catch((error: Error) => {
    failed = error.message;
  });

  return {
    name: pod.name,
    logs: () =>
      [...running.keys()].map((name) => readFileSync(join(folder, `${name}.log`), "utf8")).join("\n"),
    logFile: (container) => join(folder, `${container}.log`),
    ended: async (container) => running.get(container)?.child.exited,
    kill: (container, signal) => running.get(container)?.child.kill(signal),
    hold(on) {
      holding = on;
    },
    refreshVolumes,
    async status(ready) {
      if (failed !== undefined) throw new Error(failed);
      const states = await Promise.all(
        spec.containers.map(async (container) => {
          const { ended, starts } = running.get(container.name) ?? { starts: 0 };
          const up = initialized && starts > 0 && ended === undefined;
          const isReady = up && (await ready(probeOf(container)));
          const state = ended === undefined ? { running: {} } : { terminated: { exitCode: ended } };
          return {
            ...{ name: container.name, image: container.image, imageID: "", ready: isReady, started: up },
            ...{
              restartCount: Math.max(0, starts - 1),
              state: up || ended !== undefined ? state : { waiting: {} },
            },
          };
        }),
      );
      const done = spec.restartPolicy === "Never" && states.every(({ state }) => "terminated" in state);
      const succeeded = spec.containers.every(({ name }) => running.get(name)?.ended === 0);
      const all = states.every((state) => state.ready) ? "True" : "False";
      const phase = done ? (succeeded ? "Succeeded" : "Failed") : initialized ? "Running" : "Pending";
      const conditions = [
        { type: "Initialized", status: initialized ? "True" : "False" },
        { type: "ContainersReady", status: all },
        { type: "Ready", status: all },
        { type: "PodScheduled", status: "True" },
      ];
      return {
        phase,
        conditions,
        containerStatuses: states,
        podIP: "127.0.0.1",
        podIPs: [{ ip: "127.0.0.1" }],
      };
    },
    async stop(graceMs = 1000 * (spec.terminationGracePeriodSeconds ?? 30)) {
      stopping = true;
      const end = Date.now() + graceMs;
      await Promise.all(
        spec.containers.map(async ({ name, lifecycle }) => {
          const one = running.get(name);
          if (one === undefined || one.ended !== undefined) return;
          const hook = lifecycle?.preStop?.exec?.command ?? [];
          if (hook[0] === "sleep" && graceMs > 0) await delay(1000 * Number(hook[1]));
          await one.child.stop(Math.max(0, end - Date.now()));
        }),
      );
      for (const { child, ended } of running.values()) if (ended === undefined) await child.stop(0);
    },
  };
}

function probeOf({ readinessProbe, ports = [] }: ContainerSpec): Probe {
  const numbered = (port: string | number) =>
    typeof port === "number" ? port : (ports.find(({ name }) => name === port)?.containerPort ?? -1);
  const { httpGet, tcpSocket } = readinessProbe ?? {};
  return {
    ...(httpGet && { httpGet: { path: httpGet.path, port: numbered(httpGet.port) } }),
    ...(tcpSocket && { tcpSocket: { port: numbered(tcpSocket.port) } }),
  };
}

async function environment(api: KubernetesClient, namespace: string, list: readonly EnvVar[]) {
  const env: Record<string, string> = {};
  for (const { name, value, valueFrom } of list) {
    const { secretKeyRef } = valueFrom ?? {};
    if (secretKeyRef) {
      const given = (await dataOf(api, namespace, "secrets", secretKeyRef.name))[secretKeyRef.key];
      if (given === undefined) throw new Error(`Secret ${secretKeyRef.name} has no key ${secretKeyRef.key}`);
      env[name] = given.toString();
    } else env[name] = value ?? "";
  }
  return env;
}

/** All Services of the namespace are here. */
async function hostsFile(api: KubernetesClient, namespace: string): Promise<string> {
  const { items } = await api.get<{ items: KubernetesObject[] }>(`/api/v1/namespaces/${namespace}/services`);
  const names = items.flatMap(({ metadata: { name } }) => [
    name,
    `${name}.${namespace}`,
    `${name}.${namespace}.svc`,
  ]);
  return `127.0.0.1 localhost ${names.join(" ")}\n`;
}
