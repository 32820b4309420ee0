import { mkdtempSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { KubernetesObject } from "../../../deploy/manifests.ts";
import { type KubernetesClient, KubernetesRejection } from "./client.ts";
import { type Image, type PodSpec, type RunningPod, startPod } from "./pod.ts";

/** Runs the pods of a cluster as processes of this machine, in place of scheduler, kubelet and kube-proxy. */
export interface KubernetesNode {
  /** The pods that run now. */
  running(): readonly RunningPod[];
  close(): Promise<void>;
}

/** `metadata.deletionTimestamp` and so on of a pod. */
interface Pod extends KubernetesObject {
  readonly metadata: KubernetesObject["metadata"] & {
    readonly uid: string;
    readonly deletionTimestamp?: string;
  };
  readonly spec: PodSpec & { readonly nodeName?: string };
}

const statusType = "application/merge-patch+json";

/**
 * Starts what a cluster needs to run pods: each is bound to this node, its containers are started (see `container.ts`) and
 * probed, its status is reported. A pod's address is 127.0.0.1, as are all Services; a load balancer gets that address, too. Pods share
 * the ports of the machine, so only one of a kind can run at a time.
 * @param images by repository, the reference without tag and digest
 */
export function startKubernetesNode(
  api: KubernetesClient,
  options: { readonly folder: string; readonly images: Readonly<Record<string, Image>> },
): KubernetesNode {
  const pods = new Map<string, RunningPod>();
  const folder = mkdtempSync(join(options.folder, "pods-"));
  let closing = false;

  async function reconcile(): Promise<void> {
    const { items } = await api.get<{ items: Pod[] }>("/api/v1/pods");
    for (const [uid, pod] of pods)
      if (!items.some(({ metadata }) => metadata.uid === uid)) {
        pods.delete(uid);
        await pod.stop(0);
      }
    for (const pod of items) {
      const { uid, name, namespace = "", deletionTimestamp } = pod.metadata;
      const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
      const known = pods.get(uid);
      if (deletionTimestamp !== undefined) {
        pods.delete(uid);
        await known?.stop();
        await api.send("DELETE", path, { gracePeriodSeconds: 0 });
      } else if (pod.spec.nodeName === undefined) {
        const target = { apiVersion: "v1", kind: "Node", name: "this-machine" };
        const binding = { apiVersion: "v1", kind: "Binding", metadata: { name, namespace }, target };
        await api.send("POST", `${path}/binding`, binding);
      } else if (known === undefined) {
        pods.set(
          uid,
          await startPod(api, { name, namespace, spec: pod.spec }, { ...options, folder: join(folder, uid) }),
        );
      } else {
        await known.refreshVolumes();
        const status = await known.status(ready);
        if (JSON.stringify(status) !== known.reported)
          await api.send("PATCH", `${path}/status`, { status }, statusType);
        known.reported = JSON.stringify(status);
      }
    }
    const services = await api.get<{ items: KubernetesObject[] }>("/api/v1/services");
    for (const { metadata, spec, status } of services.items) {
      if (Object(spec).type !== "LoadBalancer" || Object(status).loadBalancer?.ingress) continue;
      const path = `/api/v1/namespaces/${metadata.namespace}/services/${metadata.name}/status`;
      await api.send(
        "PATCH",
        path,
        { status: { loadBalancer: { ingress: [{ ip: "127.0.0.1" }] } } },
        statusType,
      );
    }
  }

  const loop = (async () => {
    while (!closing) {
      await reconcile().catch((error: unknown) => {
        // Objects change while they are read; the next round sees it.
        if (!(error instanceof KubernetesRejection && [404, 409].includes(error.status))) throw error;
      });
      await delay(250);
    }
  })();
  let failure: unknown;
  loop.catch((error: unknown) => {
    failure = error;
  });
  return {
    running() {
      if (failure) throw failure;
      return [...pods.values()];
    },
    async close() {
      closing = true;
      await loop.catch(() => {});
      for (const pod of pods.values()) await pod.stop(0);
    },
  };
}

/** One probe of a container, once. */
async function ready(probe: {
  httpGet?: { path: string; port: number };
  tcpSocket?: { port: number };
}): Promise<boolean> {
  const { httpGet, tcpSocket } = probe;
  if (httpGet) {
    const answer = await fetch(`http://127.0.0.1:${httpGet.port}${httpGet.path}`, {
      signal: AbortSignal.timeout(4_000),
    }).catch(() => undefined);
    return answer?.ok ?? false;
  }
  if (!tcpSocket) return true;
  const socket = connect(tcpSocket.port, "127.0.0.1");
  return new Promise((resolve) => {
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  }).then((result) => {
    socket.destroy();
    return result === true;
  });
}
