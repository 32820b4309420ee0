import cluster from "node:cluster";
import type { Registry } from "prom-client";
import { mergedMetrics, snapshotOf } from "./merged-metrics.ts";
import { type Order, type Report, type Snapshot, type Taken, workerVariable } from "./messages.ts";

/** What this process is among the workers of a supervisor, and its link to it. */
export interface Worker {
  /** From 1. */
  readonly number: number;
  /** How many there are. */
  readonly workers: number;
  /** Another process still serves its addresses. */
  readonly replaces: boolean;
  ready(): void;
  /** Reports why it cannot start; the supervisor prints or logs the message. */
  failed(message: string): Promise<void>;
  /** Whose counters the supervisor asks for. */
  measures(registry: Registry): void;
  /** The metrics of all workers and of the supervisor, as Prometheus reads them. */
  metricsOfAll(): Promise<string>;
  /** Calls back once, with whether another process serves its addresses already. */
  onDrain(listener: (replaced: boolean) => void): void;
  /** Shares what limits have allowed with the other workers. */
  readonly limits: SharedLimits;
  /** Hands over what was counted. The process may exit when it resolves. */
  finish(): Promise<void>;
}

/** What the workers tell each other about limits that hold for all of them. */
export interface SharedLimits {
  /** Number of the other workers. */
  readonly others: number;
  publish(taken: Taken): void;
  onTaken(listener: (taken: Taken) => void): void;
}

/** This process as a worker; undefined in a process that no supervisor has started. */
export function thisWorker(env: NodeJS.ProcessEnv): Worker | undefined {
  const place = /^(\d+)\/(\d+)(\/replaces)?$/.exec(env[workerVariable] ?? "");
  if (!cluster.isWorker || place === null) return undefined;
  const number = Number(place[1]);
  const drains = new Set<(replaced: boolean) => void>();
  const takers = new Set<(taken: Taken) => void>();
  const gathering = new Map<number, (snapshots: readonly Snapshot[]) => void>();
  let asked = 0;
  let measured: Registry | undefined;
  const snapshot = async () => (measured === undefined ? [] : snapshotOf(measured, number));
  process.on("message", (order: Order) => {
    switch (order.kind) {
      case "snapshot":
        void snapshot().then((own) => report({ kind: "snapshot", request: order.request, snapshot: own }));
        break;
      case "gathered":
        gathering.get(order.request)?.(order.snapshots);
        gathering.delete(order.request);
        break;
      case "taken":
        for (const listener of takers) listener(order.taken);
        break;
      case "drain":
        for (const listener of drains) listener(order.replaced);
        break;
    }
  });
  return {
    number,
    workers: Number(place[2]),
    replaces: place[3] !== undefined,
    ready: () => void report({ kind: "ready" }),
    failed: (message) => report({ kind: "failed", message }),
    measures(registry) {
      measured = registry;
    },
    async metricsOfAll() {
      asked += 1;
      const request = asked;
      const snapshots = await new Promise<readonly Snapshot[]>((resolve) => {
        gathering.set(request, resolve);
        void report({ kind: "gather", request });
      });
      return mergedMetrics(snapshots);
    },
    onDrain: (listener) => void drains.add(listener),
    limits: {
      others: Number(place[2]) - 1,
      publish: (taken) => void report({ kind: "taken", taken }),
      onTaken: (listener) => void takers.add(listener),
    },
    finish: async () => report({ kind: "last", snapshot: await snapshot() }),
  };
}

/** Resolves when the message is written. The supervisor may be gone: then this process is about to end. */
function report(message: Report): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected) resolve();
    else process.send?.(message, undefined, undefined, () => resolve());
  });
}
