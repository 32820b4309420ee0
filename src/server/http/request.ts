import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import ipaddr from "ipaddr.js";
import type { Context, Middleware } from "koa";

const ids = new WeakMap<IncomingMessage, string>();

/** The id of this request in our logs, Envoy's logs and on error pages: its `x-request-id`, else a new one. */
export function requestId(request: IncomingMessage): string {
  const known = ids.get(request);
  if (known) return known;
  const given = request.headers["x-request-id"];
  const id = typeof given === "string" && /^[\w.:-]{8,64}$/.test(given) ? given : randomUUID();
  ids.set(request, id);
  return id;
}

/**
 * Reads the body of a posted form or document. Its length has been checked (`limitBodies`).
 *
 * @param type media type that the request must have.
 * @throws HTTP error 415 for another media type.
 */
export async function readBody(ctx: Context, type: string): Promise<string> {
  if (!ctx.is(type)) ctx.throw(415, `only ${type} is accepted`);
  return text(ctx.req);
}

/**
 * Reads a posted form.
 * @throws HTTP error 415 if it is not a form, 400 if it has a NUL, which no text of the database can have.
 */
export async function readForm(ctx: Context): Promise<URLSearchParams> {
  const form = new URLSearchParams(await readBody(ctx, "application/x-www-form-urlencoded"));
  if ([...form.values()].some((value) => value.includes("\0"))) ctx.throw(400, "the form contains a NUL");
  return form;
}

/** Whether the client has gone before its request was complete: nobody reads an answer. */
export function isGivenUp({ req }: Pick<Context, "req">): boolean {
  return req.destroyed && !req.complete;
}

/** Whether the path or a parameter has a NUL, which no text of the database can have. */
export function hasNul({ url }: Pick<Context, "url">): boolean {
  return url.includes("%00");
}

/** A query parameter that is present exactly once, and not empty. */
export function queryParameter(ctx: Context, name: string): string | undefined {
  const value = ctx.query[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Keeps a URL that contains a code or a state from caches and from the next site. */
export function hideUrl(ctx: Context): void {
  ctx.set({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
}

/** Lets web pages of any origin call an endpoint that does not use cookies. Answers preflights. */
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
      // Tracing libraries add their headers to every request of a page.
      "access-control-allow-headers":
        "Authorization, Content-Type, Accept, MCP-Protocol-Version, traceparent, tracestate, baggage",
      "access-control-max-age": "86400",
    });
    ctx.status = 204;
  };
}

/**
 * The client's address as reported by Envoy, which appends it to X-Forwarded-For: addresses that the client sent are further left.
 * IPv6 addresses are reduced to their /64, which is what one subscriber gets.
 * @param trustedHops proxies in front of Envoy whose X-Forwarded-For is trusted
 * @returns the socket's peer if there is no valid address; undefined once the socket is closed
 */
export function clientAddress(request: IncomingMessage, trustedHops: number): string | undefined {
  const forwardedFor = [request.headers["x-forwarded-for"] ?? ""].flat().join(",");
  const written = forwardedAddress(forwardedFor, trustedHops);
  return written === undefined ? peerAddress(request) : subscriberOf(written);
}

/**
 * The address of the socket's peer, as `clientAddress` reduces it.
 * @returns undefined for a Unix socket, and once the socket is closed
 */
export function peerAddress({ socket }: Pick<IncomingMessage, "socket">): string | undefined {
  const { remoteAddress } = socket;
  // Without the zone of a link-local address.
  const plain = remoteAddress?.replace(/%.*$/, "");
  return plain !== undefined && ipaddr.isValid(plain) ? subscriberOf(plain) : remoteAddress;
}

function subscriberOf(written: string): string {
  const address = ipaddr.process(written);
  return address.kind() === "ipv4"
    ? address.toString()
    : ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString();
}

/**
 * The client's address in an `X-Forwarded-For` to which Envoy has appended the address of its peer.
 * @param trustedHops proxies in front of Envoy whose X-Forwarded-For is trusted
 * @returns undefined if there is no valid address
 */
export function forwardedAddress(forwardedFor: string, trustedHops: number): string | undefined {
  const written = forwardedFor
    .split(",")
    .at(-1 - trustedHops)
    ?.trim();
  return written !== undefined && ipaddr.isValid(written) ? written : undefined;
}
