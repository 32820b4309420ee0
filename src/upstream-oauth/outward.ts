import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { createPrivateHostList } from "./private-host-list.ts";
import { createSafeFetch, createTrustedFetch, type ResolveHost } from "./safe-fetch.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

type Fetch = typeof globalThis.fetch;

/** The ways out of this room, chosen by who chose the URL. */
export interface Outward {
  /** For a route's OAuth: URLs on origins that the route itself names are the operator's, all others are strangers'. */
  fetchFor(route: Route): Fetch;
  /** One request without credentials to the route's own upstream; only status and headers come back. */
  probe(url: string, init: RequestInit): Promise<Response>;
  /**
   * An endpoint from metadata: https, or http on an origin that the operator named (F8.5).
   *
   * @throws UpstreamOAuthError `endpoint_not_allowed`, `metadata_invalid` when it is no URL at all.
   */
  checkEndpoint(route: Route, name: string, value: string): void;
}

export function createOutward(deps: { routes: CurrentRoutes; resolveHost?: ResolveHost }): Outward {
  const limits = () => deps.routes().config.upstreamOAuth;
  const options = { limits, resolveHost: deps.resolveHost };
  const strangers = createSafeFetch(options);
  const operators = createTrustedFetch({ ...options, anyHttp: true });
  const probe = createTrustedFetch({ ...options, anyHttp: true, body: "discard" });

  return {
    fetchFor(route) {
      const own = operatorOrigins(route);
      return (input, init) => {
        const { origin } = new URL(input instanceof Request ? input.url : input);
        return own.has(origin) ? operators(input, init) : strangers(input, init);
      };
    },
    probe: (url, init) => probe(url, init),
    checkEndpoint(route, name, value) {
      const url = URL.canParse(value) ? new URL(value) : undefined;
      if (!url) throw new UpstreamOAuthError("metadata_invalid", `the metadata's ${name} is not a URL`);
      if (url.protocol === "https:" || operatorOrigins(route).has(url.origin)) return;
      const port = url.port ? Number(url.port) : 80;
      const list = createPrivateHostList(limits().allowedPrivateHosts);
      if (url.protocol === "http:") {
        const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
        if (list.namesHost(host, port)) return;
        if (/^[\d.]+$|:/.test(host) && list.holdsAddress(host)) return;
      }
      throw new UpstreamOAuthError(
        "endpoint_not_allowed",
        `the metadata's ${name} (${url.protocol}//${url.host}) is not https; allowed_private_hosts opens http for a host`,
      );
    },
  };
}

/** Origins that stand in the routes file, for this route. */
function operatorOrigins(route: Route): Set<string> {
  const urls: (string | undefined)[] = [...route.to];
  if (route.mcp.kind === "server") {
    const { auth } = route.mcp;
    if (auth.type === "oauth") {
      urls.push(auth.authorizationServerUrl, auth.endpoint?.authUrl, auth.endpoint?.tokenUrl);
      urls.push(auth.endpoint?.revocationUrl);
    }
    if (auth.type === "token_exchange") urls.push(auth.tokenUrl);
    if (auth.type === "client_credentials") urls.push(auth.tokenUrl, auth.authorizationServerUrl);
    if (auth.type === "id_jag") urls.push(auth.idpTokenUrl);
  }
  return new Set(urls.filter((url) => url !== undefined).map((url) => new URL(url).origin));
}
