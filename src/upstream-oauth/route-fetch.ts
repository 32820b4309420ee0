import { endpointUrl } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { createPrivateHostList, type ResolveHost } from "../egress/addresses.ts";
import { createTrustedAuthorities, systemAuthorities } from "../egress/connector.ts";
import { SafeFetchError } from "../egress/errors.ts";
import { createSafeFetch, createTrustedFetch } from "../egress/safe-fetch.ts";
import { consentAuth, nonInteractiveAuth, type Route } from "../model/route.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { isEventStream } from "./legacy-stream.ts";
import { followOwnRedirects, type ProbeResponse } from "./probe.ts";

type Fetch = typeof globalThis.fetch;

/** Egress of this module, depending on whether the URL is trusted. */
export interface RouteFetch {
  /**
   * For a route's OAuth requests: URLs on origins that the route names are trusted, all others are untrusted. Trusts the same CAs as Envoy
   * does for the route.
   */
  fetchFor(route: Route): Fetch;
  /** The same for GETs of metadata, following redirects within a host (`followWithinHost`). */
  metadataFetchFor(route: Route): Fetch;
  /**
   * One request to the endpoint of the route's own upstream, following redirects on its host. The response has only status and headers.
   */
  probe(route: Route, init: RequestInit): Promise<ProbeResponse>;
  /**
   * The same for the requests of one session with a legacy server: all go to one address of its host, since each replica only knows its own
   * sessions. If a response is an event stream, its body stays open: the caller limits and cancels it.
   */
  legacySession(route: Route): (init: RequestInit, url?: string) => Promise<ProbeResponse>;
  /**
   * Checks an endpoint from metadata: https, or http on an origin that the operator allows.
   *
   * @throws UpstreamOAuthError `endpoint_not_allowed`, `metadata_invalid` if it is not a URL.
   */
  checkEndpoint(route: Route, name: string, value: string): void;
}

/** One fetch per kind of URL. */
interface Fetches {
  readonly untrusted: Fetch;
  readonly operatorNamed: Fetch;
  readonly upstream: Fetch;
  readonly probe: Fetch;
  /** A new one for each session. */
  readonly session: () => Fetch;
}

export function createRouteFetch(deps: { routes: CurrentRoutes; resolveHost?: ResolveHost }): RouteFetch {
  const limits = () => deps.routes().config.upstreamOAuth;
  const options = { limits, resolveHost: deps.resolveHost };
  const operatorOptions = { ...options, anyHttp: true };
  const trusted = createTrustedAuthorities();
  /** By TLS settings: connections verified with different settings are not shared. */
  const fetchesByTls = boundedCache<string, Fetches>(1000);

  function fetchesOf(route: Route): Fetches {
    const { upstreamCa } = deps.routes().config.envoy;
    const caFile = route.upstreamTls?.caFile ?? (upstreamCa === systemAuthorities ? undefined : upstreamCa);
    const serverName = route.upstreamTls?.serverName;
    const key = JSON.stringify([caFile, serverName]);
    let made = fetchesByTls.get(key);
    if (!made) {
      const tls = caFile === undefined ? {} : { authorities: () => trusted(caFile) };
      const ofUpstream = { ...operatorOptions, tls: { ...tls, serverName } };
      made = {
        untrusted: createSafeFetch({ ...options, tls }),
        operatorNamed: createTrustedFetch({ ...operatorOptions, tls }),
        upstream: createTrustedFetch(ofUpstream),
        probe: createTrustedFetch({ ...ofUpstream, body: "discard" }),
        session: () =>
          createTrustedFetch({ ...ofUpstream, body: { openFor: isEventStream }, oneAddress: true }),
      };
      fetchesByTls.set(key, made);
    }
    return made;
  }

  function fetchFor(route: Route): Fetch {
    const { untrusted, operatorNamed, upstream } = fetchesOf(route);
    const upstreams = new Set(route.to.map((url) => new URL(url).origin));
    const own = operatorOrigins(route);
    return (input, init) => {
      const { origin } = new URL(input instanceof Request ? input.url : input);
      const send = upstreams.has(origin) ? upstream : own.has(origin) ? operatorNamed : untrusted;
      return send(input, init);
    };
  }

  return {
    fetchFor,
    metadataFetchFor: (route) => followWithinHost(fetchFor(route), () => limits().timeoutMs),
    probe: (route, init) => followOwnRedirects(fetchesOf(route).probe, route, endpointUrl(route), init),
    legacySession(route) {
      const send = fetchesOf(route).session();
      return (init, url = endpointUrl(route)) => followOwnRedirects(send, route, url, init);
    },
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
        `the metadata's ${name} (${url.protocol}//${url.host}) is not https; allowed_private_hosts allows http for a host`,
      );
    },
  };
}

/** Origins that the routes file names for this route. */
function operatorOrigins(route: Route): Set<string> {
  const urls: (string | undefined)[] = [...route.to];
  const consent = consentAuth(route);
  urls.push(consent?.authorizationServerUrl, consent?.endpoint?.authUrl, consent?.endpoint?.tokenUrl);
  urls.push(consent?.endpoint?.revocationUrl);
  const other = nonInteractiveAuth(route);
  urls.push(other?.tokenUrl, other?.authorizationServerUrl, ...(other?.otherEndpoints ?? []));
  return new Set(urls.filter((url) => url !== undefined).map((url) => new URL(url).origin));
}

/** Redirects of a document. */
const maxHops = 3;

/**
 * GETs a document without credentials, and follows redirects within the host. Each hop is a separate request through `fetchOne` and
 * follows its rules; the timeout applies to all hops together. Never follows to another host, or from https to http.
 *
 * @param timeoutMs of all hops together, ms
 * @throws SafeFetchError as `fetchOne`
 */
function followWithinHost(fetchOne: Fetch, timeoutMs: () => number): Fetch {
  return async (input, init) => {
    const deadline = AbortSignal.timeout(timeoutMs());
    const signal = init?.signal ? AbortSignal.any([init.signal, deadline]) : deadline;
    let url = new URL(input instanceof Request ? input.url : input);
    for (let hop = 0; ; hop++) {
      try {
        return await fetchOne(url, { ...init, signal });
      } catch (error) {
        if (deadline.aborted && !(error instanceof SafeFetchError)) {
          throw new SafeFetchError("timed_out", `${url.host} did not answer in time`, { cause: error });
        }
        if (!(error instanceof SafeFetchError)) throw error;
        const next = URL.parse(error.location ?? "");
        if (!next || !isWithinHost(url, next)) throw error;
        if (hop === maxHops) {
          throw new SafeFetchError(
            "redirect_not_followed",
            `${url.host} redirects more than ${maxHops} times, which is not followed further`,
            { cause: error, status: error.status, server: url.host },
          );
        }
        next.hash = "";
        url = next;
      }
    }
  };
}

/** The same host and port; http may become https on the ports that belong to them. */
function isWithinHost(from: URL, to: URL): boolean {
  if (to.username !== "" || to.password !== "" || to.host !== from.host) return false;
  return to.protocol === from.protocol || (from.protocol === "http:" && to.protocol === "https:");
}
