import type { Socket } from "node:net";
import type { Middleware } from "koa";
import { envoySecretHeader, type PeerAuthentication } from "../../config/listeners.ts";

/** What says something of another request than the one on this connection: who sent it, over what, under which id. */
const forwarded =
  /^(?:forwarded|x-forwarded-.*|x-real-ip|x-client-ip|x-envoy-.*|x-request-id|traceparent|tracestate|baggage)$/;

/**
 * First on the public port, behind the health check: answers Envoy only.
 *
 * @param believed what Envoy forwards is believed: it has proven itself, or reaches us over a socket that is its alone. Otherwise
 *   (loopback without a secret) a request is one of its peer's own.
 * @param onProven this connection is Envoy's.
 */
export function envoyOnly(
  peers: PeerAuthentication,
  believed: boolean,
  onProven: (connection: Socket) => void,
): Middleware {
  return async (ctx, next) => {
    const { headers } = ctx.req;
    if (peers.judge(headers[envoySecretHeader]) !== "proven") {
      peers.refused();
      ctx.status = 403;
      ctx.set("cache-control", "no-store");
      ctx.body = { error: "forbidden", error_description: "only Envoy is answered here" };
      return;
    }
    onProven(ctx.req.socket);
    delete headers[envoySecretHeader];
    if (!believed) for (const name in headers) if (forwarded.test(name)) delete headers[name];
    await next();
  };
}
