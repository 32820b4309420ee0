import { isIdentityHeader } from "./is-identity-header.ts";

/** What HTTP and tracing need on the way to an MCP server. `mcp-*` passes, too. */
const listed = new Set([
  "accept",
  "accept-encoding",
  "accept-language",
  "baggage",
  "cache-control",
  "content-encoding",
  "content-language",
  "content-type",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-unmodified-since",
  "last-event-id",
  "pragma",
  "traceparent",
  "tracestate",
  "user-agent",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-request-id",
]);
/** Envoy's own: they frame the message or belong to one connection. */
const framingHeaders = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** What we set ourselves, or never let through. */
const ours = new Set([
  "authorization",
  "cookie",
  "origin",
  "proxy-authenticate",
  "proxy-authorization",
  "dpop",
]);

/** Whether a request header goes to every MCP server. @param name in lower case */
export function passesToServers(name: string): boolean {
  return listed.has(name) || name.startsWith("mcp-");
}

/** Whether a header is Envoy's to keep or drop. @param name in lower case */
export function isFramingHeader(name: string): boolean {
  return framingHeaders.has(name);
}

/** Why `request_headers` may not name a header; undefined: it may. @param name in lower case */
export function requestHeaderFault(name: string, use: "pass" | "set"): string | undefined {
  if (isFramingHeader(name)) return `${name} frames the request: Envoy sets it`;
  if (ours.has(name) || name.startsWith("x-pomerium-")) return `${name} is ours to set or to remove`;
  if (name.startsWith("x-envoy-")) return `${name} would steer Envoy`;
  if (name.startsWith("x-forwarded-")) return `${name} says who asks: Envoy sets it`;
  if (use === "pass" && isIdentityHeader(name))
    return `${name} claims an identity, and every client could send it`;
  return undefined;
}
