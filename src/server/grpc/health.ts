import {
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status as statusCode,
} from "@grpc/grpc-js";
import { type GrpcService, loadGrpcService } from "./unary.ts";

/** A load balancer that asked this long ago is taken to have stopped asking, ms. */
export const checkerMs = 15_000;

/**
 * How long whoever is draining waits for load balancers to hear of it, ms: some rounds of the health checks that
 * `sidecar-cluster.ts` writes. Those that ask more seldom find out by themselves.
 */
export const healthNoticeMs = 3_000;

/**
 * How long a load balancer that has heard may still send requests, ms: Envoy tells its workers of a change only when a
 * second has gone by since the one before (`update_merge_window`, which is 1 s in configurations that are not ours).
 */
export const healthSpreadMs = 1_200;

type Request = { readonly service?: string };
type Answer = { readonly status: "SERVING" | "NOT_SERVING" };

/** Load balancers, and workers of each, that are waited for as we drain. */
const maxCheckers = 1000;
/** Anybody may watch, for as long as they like. */
const maxWatchers = 1000;

interface HealthService extends GrpcService {
  setServing(serving: boolean): void;
  /**
   * Resolves when everybody who asks now and then has been told the status, at the latest after `ms`; at once if nobody does.
   * True: there was somebody to tell.
   */
  notified(ms: number): Promise<boolean>;
  close(): void;
}

/** grpc.health.v1.Health: one status for whatever service is asked about, since they stand and fall together. */
export function createHealthService(): HealthService {
  const watchers = new Set<ServerWritableStream<Request, Answer>>();
  /** Load balancers, by their connection: when each asked last, and whether it knows the present status. */
  const checkers = new Map<string, { at: number; told: boolean }>();
  let onNotified: (() => void) | undefined;
  let status: Answer["status"] = "NOT_SERVING";

  function forgetOld(): void {
    for (const [peer, { at }] of checkers) if (performance.now() - at > checkerMs) checkers.delete(peer);
  }
  const pending = () => [...checkers.values()].some(({ told }) => !told);

  return {
    admits: "anybody",
    definition: loadGrpcService("grpc/health/v1/health.proto", "grpc.health.v1.Health"),
    implementation: {
      Check: (call: ServerUnaryCall<Request, Answer>, callback: sendUnaryData<Answer>) => {
        callback(null, { status });
        // Whoever asks from ever new ports is no load balancer, and must not make each question dearer.
        if (checkers.size >= maxCheckers) forgetOld();
        if (checkers.size >= maxCheckers && !checkers.has(call.getPeer())) return;
        checkers.set(call.getPeer(), { at: performance.now(), told: true });
        if (!pending()) onNotified?.();
      },
      Watch: (call: ServerWritableStream<Request, Answer>) => {
        if (watchers.size >= maxWatchers) {
          call.emit("error", { code: statusCode.RESOURCE_EXHAUSTED, details: "too many watch already" });
          return;
        }
        watchers.add(call);
        call.on("cancelled", () => watchers.delete(call));
        call.write({ status });
      },
    },
    setServing(serving) {
      const next = serving ? "SERVING" : "NOT_SERVING";
      if (next === status) return;
      status = next;
      for (const watcher of watchers) watcher.write({ status });
      for (const asker of checkers.values()) asker.told = false;
    },
    notified(ms) {
      forgetOld();
      const somebody = checkers.size > 0;
      if (!pending()) return Promise.resolve(somebody);
      return new Promise((resolve) => {
        onNotified = () => {
          clearTimeout(patience);
          resolve(somebody);
        };
        const patience = setTimeout(onNotified, ms);
      });
    },
    close() {
      for (const watcher of watchers) watcher.end();
      watchers.clear();
    },
  };
}
