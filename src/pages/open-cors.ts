import type { Middleware } from "koa";

/**
 * Lets web pages of any origin call an endpoint (F2.8): nothing here goes by cookies. Preflights are answered at once.
 */
export function openCors(methods: string): Middleware {
  return async (ctx, next) => {
    ctx.set("access-control-allow-origin", "*");
    ctx.vary("Origin");
    if (ctx.method !== "OPTIONS") {
      ctx.set("access-control-expose-headers", "WWW-Authenticate, Retry-After");
      return next();
    }
    ctx.vary("Access-Control-Request-Headers");
    ctx.set({
      "access-control-allow-methods": `${methods}, OPTIONS`,
      // What traces a page adds its headers to every request of its scripts.
      "access-control-allow-headers":
        "Authorization, Content-Type, Accept, MCP-Protocol-Version, traceparent, tracestate, baggage",
      "access-control-max-age": "86400",
    });
    ctx.status = 204;
  };
}
