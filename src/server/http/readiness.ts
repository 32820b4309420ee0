import type { Socket } from "node:net";
import type { Middleware } from "koa";
import { checkerMs, healthSpreadMs } from "../grpc/health.ts";

/** Whether the public port wants requests, for load balancers that ask. */
export interface Readiness {
  /** Answers `GET /readyz`, whatever the host; first on the port. No path of ours that Envoy routes, so nobody else reaches it. */
  readonly middleware: Middleware;
  /**
   * From now on the answer is no, and connections end with what is under way on them. Resolves when everybody who asks now
   * and then knows and has acted upon it, at the latest after `ms`; at once if nobody asks.
   */
  drain(ms: number): Promise<void>;
}

/** The HTTP port's part of what grpc.health.v1.Health is to the gRPC port. */
export function createReadiness(): Readiness {
  /** Load balancers, by their connection: when each asked last. */
  const checkers = new Map<Socket, number>();
  const unnotified = new Set<Socket>();
  let draining = false;
  let onNotified: (() => void) | undefined;

  function notified(checker: Socket): void {
    unnotified.delete(checker);
    if (unnotified.size === 0) onNotified?.();
  }

  return {
    async middleware(ctx, next) {
      if (draining) ctx.set("connection", "close");
      if (ctx.path !== "/readyz") return next();
      const { socket } = ctx.req;
      if (!checkers.has(socket))
        socket.once("close", () => {
          checkers.delete(socket);
          notified(socket);
        });
      checkers.set(socket, performance.now());
      ctx.status = draining ? 503 : 200;
      ctx.body = { status: draining ? "draining" : "ok" };
      if (draining) ctx.res.once("finish", () => notified(socket));
    },
    async drain(ms) {
      draining = true;
      for (const [asker, at] of checkers) if (performance.now() - at < checkerMs) unnotified.add(asker);
      if (unnotified.size === 0) return;
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, ms);
        onNotified = () => {
          clearTimeout(deadline);
          setTimeout(resolve, healthSpreadMs);
        };
      });
    },
  };
}
