import type { Config } from "../config/config.ts";
import { consentHeader } from "../config/header-names.ts";
import { consentRequiredPath } from "../config/paths.ts";
import { createRouteTable, type OwnPath, ownPaths } from "../config/route-table.ts";
import { asksInCall } from "../model/route.ts";
import { sidecarHeaders } from "./clusters.ts";
import { ownBodyBytes, ownBodyFilter, retryElsewhere } from "./http-filters.ts";
import { type Json, typeUrl } from "./proto-json.ts";
import {
  checked,
  mcpAnswerHeaders,
  notFound,
  otherListener,
  type RouteEntry,
  routeEntries,
} from "./routes.ts";
import { ownPathTimeouts } from "./timeouts.ts";

const off = { "@type": typeUrl("config.route.v3.FilterConfig"), disabled: true, config: {} };

/** The filters that only requests to upstreams need. */
const upstreamFiltersOff = { "envoy.filters.http.mcp": off, "envoy_mcp_auth.challenge": off };

/**
 * One virtual host per host of the gateway, and one for all others.
 *
 * @param options.serves the hosts of this listener.
 * @param options.httpsOnly requests that a proxy reports as plain HTTP are redirected to https without a check.
 * @param options.publicScheme upstreams see the scheme of the host's public URLs, whatever the listener uses.
 */
export function virtualHosts(
  config: Config,
  options: {
    readonly serves: (host: string) => boolean;
    readonly httpsOnly: boolean;
    readonly publicScheme?: true;
  },
): Json[] {
  const table = createRouteTable(config);
  const issuerHost = new URL(config.issuer).host;
  const hosts = new Map<string, RouteEntry[]>([[issuerHost, []]]);
  const ofRoutes = new Set(config.routes.map((route) => route.host));
  for (const route of config.routes) {
    hosts.set(route.host, [...(hosts.get(route.host) ?? []), ...routeEntries(route, table)]);
  }
  const domainsOf = (host: string) =>
    /:\d+$/.test(host) ? [host] : [host, `${host}:${isHttp(table.originOf(host)) ? 80 : 443}`];
  const first = options.httpsOnly ? [toHttps] : [];
  const asking = new Set(config.routes.filter(asksInCall).map((route) => route.host));
  const served = [...hosts].filter(([host]) => options.serves(host));
  const named = served.map(([host, entries]) => ({
    name: host,
    domains: domainsOf(host),
    ...(options.publicScheme ? scheme(table.originOf(host)) : {}),
    routes: [
      ...first,
      ...(asking.has(host) ? [consentRequired(config)] : []),
      ...ownPaths(config, { issuer: host === issuerHost, route: ofRoutes.has(host) }).map((own) =>
        ownRoute(own, config),
      ),
      ...entries.toSorted((a, b) => b.length - a.length).map((entry) => entry.route),
      notFound,
    ],
  }));
  // Envoy rejects a domain that is in two virtual hosts: `http://a` has `a:80`, as does `https://a:80`.
  const here = new Set(named.flatMap(({ domains }) => domains));
  const elsewhere = [...new Set([...hosts.keys()].flatMap(domainsOf))].filter((domain) => !here.has(domain));
  const ofOthers = { name: "other listeners", domains: elsewhere, routes: [...first, otherListener] };
  const others = { name: "others", domains: ["*"], routes: [...first, notFound] };
  return [...named, ...(elsewhere.length === 0 ? [] : [ofOthers]), others];
}

function isHttp(origin: string | undefined): boolean {
  return origin?.startsWith("http:") === true;
}

function scheme(origin: string | undefined): { readonly [key: string]: Json } {
  const value = isHttp(origin) ? "http" : "https";
  return {
    request_headers_to_add: [
      { header: { key: "x-forwarded-proto", value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" },
    ],
  };
}

/** The terminator reports that the client did not use TLS. */
const toHttps: Json = {
  name: "https",
  match: {
    prefix: "/",
    headers: [{ name: "x-forwarded-proto", string_match: { exact: "http", ignore_case: true } }],
  },
  redirect: { https_redirect: true, response_code: "PERMANENT_REDIRECT" },
  typed_per_filter_config: {
    "envoy.filters.http.ext_authz": {
      "@type": typeUrl("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
      disabled: true,
    },
    ...upstreamFiltersOff,
  },
};

/**
 * Selected again by Envoy after a check that has set `consentHeader`: the filters have run for the call's own route. A client's header
 * is removed before. If it is not, the check denies the request, because no route has this name.
 */
function consentRequired(config: Config): Json {
  return {
    name: "consent required",
    match: { prefix: "/", headers: [{ name: consentHeader, present_match: true }] },
    ...mcpAnswerHeaders,
    ...toSidecar(config, {
      regex_rewrite: { pattern: { regex: "^.*$" }, substitution: consentRequiredPath(config.paths.prefix) },
    }),
    typed_per_filter_config: {
      "envoy.filters.http.ext_authz": checked({
        disable_request_body_buffering: true,
        context_extensions: { route: "consent required" },
      }),
      ...upstreamFiltersOff,
    },
  };
}

/** Routes to the sidecar's HTTP listener, without a check. */
function ownRoute(own: OwnPath, config: Config): Json {
  return {
    name: `own ${own.path}`,
    match: own.match === "exact" ? { path: own.path } : { path_separated_prefix: own.path },
    ...toSidecar(config),
    typed_per_filter_config: {
      "envoy.filters.http.ext_authz": {
        "@type": typeUrl("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
        disabled: true,
      },
      ...upstreamFiltersOff,
      [ownBodyFilter]: {
        "@type": typeUrl("extensions.filters.http.buffer.v3.BufferPerRoute"),
        buffer: { max_request_bytes: ownBodyBytes },
      },
    },
  };
}

function toSidecar(
  config: Config,
  rewrite: { readonly [key: string]: Json } = {},
): { readonly [key: string]: Json } {
  return {
    route: {
      cluster: "sidecar_http",
      ...rewrite,
      ...ownPathTimeouts,
      retry_policy: { retry_on: "connect-failure,refused-stream", num_retries: 2, ...retryElsewhere },
    },
    // The sidecar trusts forwarded addresses and request ids only with this secret.
    ...sidecarHeaders(config),
  };
}
