import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import ipaddr from "ipaddr.js";
import type { Context, Middleware } from "koa";

const ids = new WeakMap<IncomingMessage, string>();

/** The id that this request has in our logs, Envoy's and on error pages: its `x-request-id`, else one made once. */
export function requestId(request: IncomingMessage): string {
  const known = ids.get(request);
  if (known) return known;
  const given = request.headers["x-request-id"];
  const id = typeof given === "string" && /^[\w.:-]{8,64}$/.test(given) ? given : randomUUID();
  ids.set(request, id);
  return id;
}

/**
 * Reads the whole body of a posted form or document; the door has made sure of its length (`limits.body_bytes`).
 *
 * @param type media type that the request must have.
 * @throws an HTTP 415 error, as Koa's `ctx.throw` makes it, where it has another.
 */
export async function readBody(ctx: Context, type: string): Promise<string> {
  if (!ctx.is(type)) ctx.throw(415, `only ${type} is accepted here`);
  return text(ctx.req);
}

/**
 * Reads a posted form of one of our pages.
 * @throws an HTTP 415 error, as Koa's `ctx.throw` makes it, where it is not one.
 */
export async function readForm(ctx: Context): Promise<URLSearchParams> {
  return new URLSearchParams(await readBody(ctx, "application/x-www-form-urlencoded"));
}

/**
 * Lets web pages of any origin call an endpoint: nothing here goes by cookies. Preflights are answered at once.
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

/**
 * Who Envoy says is calling: it appends the address it has seen, so what a client wrote itself stands further left.
 * IPv6 counts by /64, which is what one customer gets.
 * @param trustedHops proxies in front of Envoy whose X-Forwarded-For is believed
 * @returns the socket's peer where no valid address is written; undefined once the socket is gone
 */
export function clientAddress(request: IncomingMessage, trustedHops: number): string | undefined {
  const forwardedFor = [request.headers["x-forwarded-for"] ?? ""].flat().join(",");
  const written = forwardedAddress(forwardedFor, trustedHops);
  if (written === undefined) return request.socket.remoteAddress;
  const address = ipaddr.process(written);
  return address.kind() === "ipv4"
    ? address.toString()
    : ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString();
}

/**
 * The client's address by an `X-Forwarded-For` to which Envoy has appended the address that it has seen.
 * @param trustedHops proxies in front of Envoy whose word is believed
 * @returns undefined where no valid address is written
 */
export function forwardedAddress(forwardedFor: string, trustedHops: number): string | undefined {
  const written = forwardedFor
    .split(",")
    .at(-1 - trustedHops)
    ?.trim();
  return written !== undefined && ipaddr.isValid(written) ? written : undefined;
}
