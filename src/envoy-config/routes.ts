import { provenUpstreamPath } from "../config/paths.ts";
import type { RouteTable } from "../config/route-table.ts";
import { aggregateOf, asksInCall, inspectedBodyBytes, type Route, unmatched } from "../model/route.ts";
import {
  affinityFilter,
  affinityPolicy,
  affinityState,
  clusterName,
  hasAffinity,
  sessionPolicy,
  sidecarHeaders,
} from "./clusters.ts";
import { earlyBytes, headerCheckFilter, retryElsewhere } from "./http-filters.ts";
import { type Json, typeUrl } from "./proto-json.ts";
import { upstreamTimeouts } from "./timeouts.ts";

/**
 * Prevents an MCP server's response from affecting the host that it shares with other MCP servers, and possibly the issuer: from
 * running as a page, controlling pages as a service worker, changing how browsers reach the host, or redirecting their reports. MCP
 * clients do not read these headers. ext_authz adds the gateway's CORS headers afterwards (`ext-authz/cors.ts`). The challenge
 * filter rewrites `Set-Cookie` and `Location`.
 */
export const mcpAnswerHeaders: { readonly [key: string]: Json } = {
  response_headers_to_remove: [
    "set-cookie2",
    // Device-bound sessions: the browser would contact the server before it sends requests to the host.
    "secure-session-registration",
    "sec-session-registration",
    "clear-site-data",
    "service-worker-allowed",
    "refresh",
    "link",
    "alt-svc",
    "strict-transport-security",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    "accept-ch",
    "critical-ch",
    "nel",
    "report-to",
    "reporting-endpoints",
    "content-security-policy-report-only",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
    "timing-allow-origin",
  ],
  response_headers_to_add: [
    // Overwritten, not appended: the upstream's policy could name a report destination.
    overwrite("content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"),
    overwrite("x-content-type-options", "nosniff"),
  ],
};

function overwrite(key: string, value: string): Json {
  return { header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" };
}

/** An Envoy route and how specific it is; longer routes come first. */
export interface RouteEntry {
  readonly length: number;
  readonly route: { readonly [key: string]: Json };
}

export const checked = (settings: Json): Json => ({
  "@type": typeUrl("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
  check_settings: settings,
});

/** The last entry of a virtual host. Its requests still pass through ext_authz, which answers them; if it allows one, the response is 404. */
const lastEntry = (name: string, context: { readonly [key: string]: Json }): Json => ({
  name,
  match: { prefix: "/" },
  direct_response: { status: 404 },
  typed_per_filter_config: {
    "envoy.filters.http.ext_authz": checked({ disable_request_body_buffering: true, ...context }),
  },
});

/** For hosts that only other listeners serve. */
export const otherListener: Json = lastEntry("other listener", {});

/** Tells the check that this Envoy has no route: if the gateway has one, Envoy does not know it yet. */
export const notFound: Json = lastEntry("none", { context_extensions: { route: unmatched } });

/**
 * The Envoy routes of one gateway route. The path of `to` replaces the path of `from`. If a request already has the path of `to`
 * (`/mcp` on a route to `http://x/mcp`), it is not doubled, unless another route serves that path.
 */
export function routeEntries(route: Route, table: RouteTable): RouteEntry[] {
  if (aggregateOf(route) !== undefined)
    return mapped(route, table).map((one) => ({
      ...one,
      route: { ...one.route, ...sidecarHeaders(table.config) },
    }));
  return route.mcp.kind === "server"
    ? [provenPathEntry(route), ...mapped(route, table)]
    : mapped(route, table);
}

/** Paths outside `to` that the upstream has named: the check verifies the proof in the path, and Envoy removes it. */
function provenPathEntry(route: Route): RouteEntry {
  const base = provenUpstreamPath(route, "", "");
  const rewrite = {
    pattern: { regex: `^${base.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}[^/?]*(/.*)$` },
    substitution: "\\1",
  };
  return entry(route, { prefix: base }, base.length, { regex_rewrite: rewrite });
}

function mapped(route: Route, table: RouteTable): RouteEntry[] {
  const { prefix, upstreamPath } = route;
  if (upstreamPath === undefined || upstreamPath === prefix)
    return [...onlySlashes(route, "/"), entry(route, under(prefix), prefix.length)];
  const base = prefix === "/" ? "" : prefix;
  const doubled = base + upstreamPath.replace(/\/$/, "");
  const entries = rewritten(route, base, upstreamPath);
  const servedByRoute =
    table.find(route.host, doubled)?.id === route.id && !table.isOwnPath(route.host, doubled);
  return doubled !== prefix && servedByRoute
    ? [...rewritten(route, doubled, upstreamPath), ...entries]
    : entries;
}

/** Maps `from`, with or without a trailing slash, to `to`, and paths below `from` to paths below `to`. */
function rewritten(route: Route, from: string, to: string): RouteEntry[] {
  const below = to.endsWith("/") ? to : `${to}/`;
  const slashed =
    from === route.prefix
      ? [entry(route, { path: `${from}/` }, from.length + 3, { prefix_rewrite: to })]
      : from === ""
        ? onlySlashes(route, to)
        : [];
  return [
    ...slashed,
    entry(route, { path: from === "" ? "/" : from }, from.length + 2, { prefix_rewrite: to }),
    entry(route, { prefix: `${from}/` }, from.length + 1, { prefix_rewrite: below }),
  ];
}

/** Envoy merges a path of several slashes into two; other software reads it as one. Without this entry, the check denies it. */
function onlySlashes(route: Route, to: string): RouteEntry[] {
  return route.prefix === "/"
    ? [entry(route, { path: "//" }, 2, { prefix_rewrite: to }, { slashes: "merged" })]
    : [];
}

function under(prefix: string): Json {
  return prefix === "/" ? { prefix } : { path_separated_prefix: prefix };
}

function entry(
  route: Route,
  match: Json,
  length: number,
  rewrite: { readonly [key: string]: Json } = {},
  moreContext: Readonly<Record<string, string>> = {},
): RouteEntry {
  return {
    length,
    route: {
      name: route.id,
      match,
      route: {
        cluster: clusterName(route),
        ...rewrite,
        ...hostRewrite(route),
        ...affinityOf(route),
        append_x_forwarded_host: true,
        ...upstreamTimeouts,
        // Retries only requests that never reached the upstream: a call is not replayed.
        retry_policy: { retry_on: "connect-failure,refused-stream", num_retries: 2, ...retryElsewhere },
      },
      ...(route.mcp.kind === "server" ? mcpAnswerHeaders : {}),
      typed_per_filter_config: perFilter(route, moreContext),
    },
  };
}

function affinityOf(route: Route): { readonly [key: string]: Json } {
  if (aggregateOf(route) !== undefined) return sessionPolicy;
  return hasAffinity(route) ? affinityPolicy : {};
}

/** The sidecar knows the public hosts: an aggregated route needs no other. */
function hostRewrite(route: Route): { readonly [key: string]: Json } {
  if (route.preserveHostHeader === true || aggregateOf(route) !== undefined) return {};
  const hosts = new Set(route.to.map((url) => new URL(url).host));
  const [only] = hosts;
  return hosts.size === 1 && only !== undefined
    ? { host_rewrite_literal: only }
    : { auto_host_rewrite: true };
}

/**
 * The context that Envoy sends with each check of a route. With it, the check denies a request that Envoy would send to a different
 * upstream, and expects bodies only where Envoy sends them.
 */
export function checkContext(route: Route): Readonly<Record<string, string>> {
  return {
    route: route.id,
    upstream: route.upstreamHash,
    ...(inspectedBodyBytes(route) === 0 ? {} : { body: "inspected" }),
  };
}

function perFilter(route: Route, moreContext: Readonly<Record<string, string>>): Json {
  const bytes = inspectedBodyBytes(route);
  // One byte more than policy reads, so that a truncated body never looks complete. If this fits into Envoy's buffer before the first
  // check, a partial message is allowed: otherwise Envoy would wait for the rest without reading it (408).
  const inspected = {
    max_request_bytes: bytes + 1,
    allow_partial_message: bytes < earlyBytes,
    pack_as_bytes: true,
  };
  const body = bytes === 0 ? { disable_request_body_buffering: true } : { with_request_body: inspected };
  // Not in `checkContext`: only this configuration can send a call on to the gateway's HTTP listener (`virtual-hosts.ts`).
  const consent = asksInCall(route) ? { consent: "call" } : {};
  const context = { ...checkContext(route), ...consent, ...moreContext };
  // The first check never allows a request by itself: the second one, which adds the credential, always runs after it.
  const beforeBody = {
    [headerCheckFilter]: checked({ context_extensions: { ...context, phase: "headers" } }),
  };
  const authorization = {
    ...(bytes === 0 ? {} : beforeBody),
    "envoy.filters.http.ext_authz": checked({ ...body, context_extensions: context }),
  };
  const filterConfig = typeUrl("config.route.v3.FilterConfig");
  if (hasAffinity(route))
    return { ...authorization, [affinityFilter]: { "@type": filterConfig, config: affinityState() } };
  if (route.mcp.kind === "server") return authorization;
  const off = { "@type": filterConfig, disabled: true, config: {} };
  return { ...authorization, "envoy.filters.http.mcp": off };
}
