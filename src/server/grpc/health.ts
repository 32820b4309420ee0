import {
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status as statusCode,
} from "@grpc/grpc-js";
import { type GrpcService, loadGrpcService } from "./unary.ts";

/** A load balancer whose last health check is older than this is forgotten, ms. */
export const checkerMs = 15_000;

/**
 * How long draining waits for load balancers to notice, ms: several rounds of the health checks that `clusters.ts` configures.
 * Load balancers that check less often are not waited for.
 */
export const healthNoticeMs = 3_000;

/**
 * How long a load balancer that has noticed may still send requests, ms: Envoy propagates a change to its workers only a second after
 * the previous one (`update_merge_window`, 1 s by default).
 */
export const healthSpreadMs = 1_200;

type Request = { readonly service?: string };
type Answer = { readonly status: "SERVING" | "NOT_SERVING" };

/** Load balancers, counting each worker, that draining waits for. */
const maxCheckers = 1000;
/** Watching needs no authentication and has no time limit. */
const maxWatchers = 1000;

interface HealthService extends GrpcService {
  setServing(serving: boolean): void;
  /**
   * Resolves when all load balancers that poll have seen the current status, at the latest after `ms`. True if there are any.
   */
  notified(ms: number): Promise<boolean>;
  close(): void;
}

/** grpc.health.v1.Health, with one status for all services. */
export function createHealthService(): HealthService {
  const watchers = new Set<ServerWritableStream<Request, Answer>>();
  /** Load balancers by connection: when each checked last, and whether it has seen the current status. */
  const checkers = new Map<string, { at: number; notified: boolean }>();
  let onNotified: (() => void) | undefined;
  let status: Answer["status"] = "NOT_SERVING";

  function forgetOld(): void {
    for (const [peer, { at }] of checkers) if (performance.now() - at > checkerMs) checkers.delete(peer);
  }
  const pending = () => [...checkers.values()].some(({ notified }) => !notified);

  return {
    admits: "anybody",
    definition: loadGrpcService("grpc/health/v1/health.proto", "grpc.health.v1.Health"),
    implementation: {
      Check: (call: ServerUnaryCall<Request, Answer>, callback: sendUnaryData<Answer>) => {
        callback(null, { status });
        // A caller that keeps using new ports is not a load balancer and must not slow down checks.
        if (checkers.size >= maxCheckers) forgetOld();
        if (checkers.size >= maxCheckers && !checkers.has(call.getPeer())) return;
        checkers.set(call.getPeer(), { at: performance.now(), notified: true });
        if (!pending()) onNotified?.();
      },
      Watch: (call: ServerWritableStream<Request, Answer>) => {
        if (watchers.size >= maxWatchers) {
          call.emit("error", { code: statusCode.RESOURCE_EXHAUSTED, details: "too many watchers" });
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
      for (const checker of checkers.values()) checker.notified = false;
    },
    notified(ms) {
      forgetOld();
      const hasCheckers = checkers.size > 0;
      if (!pending()) return Promise.resolve(hasCheckers);
      return new Promise((resolve) => {
        onNotified = () => {
          clearTimeout(timeout);
          resolve(hasCheckers);
        };
        const timeout = setTimeout(onNotified, ms);
      });
    },
    close() {
      for (const watcher of watchers) watcher.end();
      watchers.clear();
    },
  };
}
