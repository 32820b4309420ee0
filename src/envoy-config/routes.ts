import { besidePath } from "../config/paths.ts";
import type { RouteTable } from "../config/route-table.ts";
import { inspectedBodyBytes, type Route } from "../model/route.ts";
import { affinityFilter, affinityPolicy, affinityState, hasAffinity } from "./affinity.ts";
import { earlyBytes, headerCheckFilter, retryElsewhere } from "./http-filters.ts";
import { type Json, typeUrl } from "./proto-json.ts";
import { clusterName } from "./upstream-cluster.ts";

/**
 * What an MCP server's answer cannot do to the host it shares with other MCP servers, perhaps with the issuer: run as a page, control pages as a service worker, change how browsers reach the host, or send their reports elsewhere. MCP clients read
 * none of these headers; CORS is ours (`check/cors.ts`), added after these are gone. What remains of `Set-Cookie` and
 * `Location` is the challenge filter's to rewrite.
 */
export const mcpAnswerHeaders: { readonly [key: string]: Json } = {
  response_headers_to_remove: [
    "set-cookie2",
    // Sessions that are bound to a device: the browser would ask the server before it sends requests of the host.
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
    // Overwritten, not added to: a policy of the upstream's own could name where reports go.
    overwrite("content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"),
    overwrite("x-content-type-options", "nosniff"),
  ],
};

function overwrite(key: string, value: string): Json {
  return { header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" };
}

/** An Envoy route and how specific it is; longer ones stand first. */
export interface RouteEntry {
  readonly length: number;
  readonly route: Json;
}

const checked = (settings: Json): Json => ({
  "@type": typeUrl("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
  check_settings: settings,
});
const unbuffered = checked({ disable_request_body_buffering: true });

/** What nobody claims still goes through ext_authz, so that one place answers it; should that let it pass, it is 404 here. */
export const notFound: Json = {
  name: "none",
  match: { prefix: "/" },
  direct_response: { status: 404 },
  typed_per_filter_config: { "envoy.filters.http.ext_authz": unbuffered },
};

/**
 * Envoy's routes for one of ours. Where `to` has a path, it replaces `from`'s; a request that names both (`/mcp` on a route to
 * `http://x/mcp`) is not doubled, unless another route claims that place.
 */
export function routeEntries(route: Route, table: RouteTable): RouteEntry[] {
  return route.mcp.kind === "server" ? [besideEntry(route), ...mapped(route, table)] : mapped(route, table);
}

/** What the upstream has named outside of `to`: the check verifies the proof in front of it, Envoy takes it off. */
function besideEntry(route: Route): RouteEntry {
  const base = besidePath(route, "", "");
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
  const ours = table.find(route.host, doubled)?.id === route.id && !table.isOwnPath(route.host, doubled);
  return doubled !== prefix && ours ? [...rewritten(route, doubled, upstreamPath), ...entries] : entries;
}

/** `from` itself becomes `to`, with or without a slash at its end; what is below the one goes below the other. */
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

/** Envoy merges a path of slashes alone into two, where we, like everybody, read one. The check refuses it without this entry. */
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
  said: Readonly<Record<string, string>> = {},
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
        ...(hasAffinity(route) ? affinityPolicy : {}),
        append_x_forwarded_host: true,
        // An MCP stream ends when its parties say so.
        timeout: "0s",
        idle_timeout: "0s",
        // Only what never reached the upstream: a call is not replayed.
        retry_policy: { retry_on: "connect-failure,refused-stream", num_retries: 2, ...retryElsewhere },
      },
      ...(route.mcp.kind === "server" ? mcpAnswerHeaders : {}),
      typed_per_filter_config: perFilter(route, said),
    },
  };
}

function hostRewrite(route: Route): { readonly [key: string]: Json } {
  if (route.preserveHostHeader === true) return {};
  const hosts = new Set(route.to.map((url) => new URL(url).host));
  const [only] = hosts;
  return hosts.size === 1 && only !== undefined
    ? { host_rewrite_literal: only }
    : { auto_host_rewrite: true };
}

/**
 * What Envoy says with each check of a route: the check denies a request that Envoy would send elsewhere than we judged it for,
 * and waits for bodies only where they come.
 */
export function checkContext(route: Route): Readonly<Record<string, string>> {
  return {
    route: route.id,
    upstream: route.upstreamHash,
    ...(inspectedBodyBytes(route) === 0 ? {} : { body: "inspected" }),
  };
}

function perFilter(route: Route, said: Readonly<Record<string, string>>): Json {
  const bytes = inspectedBodyBytes(route);
  // One byte more than policy reads: a beginning must never pass for the whole. Where as much fits into what Envoy buffers before
  // the first check has answered, it comes as soon as it is there: Envoy would wait for the rest and not read it (408).
  const inspected = {
    max_request_bytes: bytes + 1,
    allow_partial_message: bytes < earlyBytes,
    pack_as_bytes: true,
  };
  const body = bytes === 0 ? { disable_request_body_buffering: true } : { with_request_body: inspected };
  const context = { ...checkContext(route), ...said };
  // The first check lets nobody through by itself: the second, which alone hands out credentials, is never off beside it.
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
