import type { Socket } from "node:net";
import type { Middleware } from "koa";
import { askersMs, healthSpreadMs } from "../grpc/health.ts";

/** Whether the public port wants requests, for load balancers that ask (F7.2). */
export interface DoorHealth {
  /** Answers `GET /readyz`, whatever the host; first on the port. No path of ours that Envoy routes, so nobody else reaches it. */
  readonly middleware: Middleware;
  /**
   * From now on the answer is no, and connections end with what is under way on them. Resolves when everybody who asks now
   * and then knows and has acted upon it, at the latest after `ms`; at once if nobody asks.
   */
  drain(ms: number): Promise<void>;
}

/** The HTTP port's part of what grpc.health.v1.Health is to the gRPC port. */
export function createDoorHealth(): DoorHealth {
  /** Load balancers, by their connection: when each asked last. */
  const askers = new Map<Socket, number>();
  const untold = new Set<Socket>();
  let draining = false;
  let onTold: (() => void) | undefined;

  function told(asker: Socket): void {
    untold.delete(asker);
    if (untold.size === 0) onTold?.();
  }

  return {
    async middleware(ctx, next) {
      if (draining) ctx.set("connection", "close");
      if (ctx.path !== "/readyz") return next();
      const { socket } = ctx.req;
      if (!askers.has(socket))
        socket.once("close", () => {
          askers.delete(socket);
          told(socket);
        });
      askers.set(socket, performance.now());
      ctx.status = draining ? 503 : 200;
      ctx.body = { status: draining ? "draining" : "ok" };
      if (draining) ctx.res.once("finish", () => told(socket));
    },
    async drain(ms) {
      draining = true;
      for (const [asker, at] of askers) if (performance.now() - at < askersMs) untold.add(asker);
      if (untold.size === 0) return;
      await new Promise<void>((resolve) => {
        const patience = setTimeout(resolve, ms);
        onTold = () => {
          clearTimeout(patience);
          setTimeout(resolve, healthSpreadMs);
        };
      });
    },
  };
}
