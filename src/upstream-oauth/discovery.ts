import type { AuthorizationServer } from "oauth4webapi";
import { endpointUrl, hasExplicitEndpoint, listedPath, possibleEndpoints } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { SafeFetchError } from "../egress/errors.ts";
import type { Route } from "../model/route.ts";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { withDeadline } from "../util/deadline.ts";
import { SingleFlight } from "../util/single-flight.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { readStreamAnswer, streamHeaders, takesNoPost } from "./legacy-stream.ts";
import { discoveryHeaders, failureMs, type MetadataCache } from "./metadata-cache.ts";
import { codeOfUnknown, detourOf, type ProbeAnswer, type ProbeResponse, readProbeAnswer } from "./probe.ts";
import { createResourceMetadata, type Named, type Searched } from "./resource-metadata.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { createServerMetadata, type Look, sameIssuer, type UpstreamServer } from "./server-metadata.ts";
import type { DiscoveryStep } from "./upstream-oauth.ts";
import { parseChallenge, type UpstreamChallenge } from "./www-authenticate.ts";

/** Finds the authorization server behind a route's upstream. */
export interface Discovery {
  /** @throws UpstreamOAuthError */
  server(route: Route, hint?: DiscoveryHint): Promise<UpstreamServer>;
  /**
   * Whether the upstream requires OAuth: it asks for a token, or publishes metadata that names an authorization server.
   *
   * @throws UpstreamOAuthError if it cannot be reached, or its metadata is wrong
   */
  needed(route: Route, onStep?: OnStep): Promise<Need>;
  /** Path of the MCP endpoint below the route's `from`, known or discovered: "" for `from` itself. */
  endpointPath(route: Route): Promise<string>;
  /** Discards the discovered endpoint of the route. */
  forget(route: Route): void;
  /** Authorization server metadata of a known issuer. */
  metadata(route: Route, issuer: string, onStep?: OnStep): Promise<AuthorizationServer>;
}
/** `unknown`: not an MCP server, or an inconclusive response. */
export type Need =
  | { readonly kind: "yes" | "no" }
  | { readonly kind: "unknown"; readonly finding: string; readonly status?: number };
export interface DiscoveryHint {
  /** `resource_metadata` of an earlier challenge. */
  readonly resourceMetadata?: string;
  readonly authorizationServerUrl?: string;
  readonly onStep?: OnStep;
}
type OnStep = (step: DiscoveryStep) => void;

interface Probed extends ProbeAnswer {
  readonly status?: number;
  readonly challenge?: UpstreamChallenge;
  /** The upstream opened the stream of the legacy HTTP+SSE transport. */
  readonly opensStream?: true;
  /** There was no response. */
  readonly failure?: UpstreamOAuthError;
}
interface Found extends Searched {
  /** With the route at its endpoint. */
  readonly look: Look;
  readonly probed: Probed;
}

/** How long a discovered endpoint is fresh, ms: the minimum for metadata. */
const pathTtlMs = 60_000;
/** How long to wait for a repeated discovery before the previous result is used, ms. */
const repeatTimeoutMs = 2000;

export function createDiscovery(deps: {
  routes: CurrentRoutes;
  routeFetch: RouteFetch;
  cache: MetadataCache;
  logger?: Pick<Logger, "warn" | "info">;
}): Discovery {
  const { routeFetch } = deps;
  const resourceMetadata = createResourceMetadata(deps);
  const serverMetadata = createServerMetadata(deps);

  /** Discovered paths by route and upstream, and until when they are fresh, ms. */
  const paths = boundedCache<string, { readonly path: string; readonly freshUntil: number }>(10_000);
  const placeOf = ({ id, upstream }: Route) => `${id} ${upstream}`;
  const locateOnce = new SingleFlight<string>({ failureMs, failures: 10_000 });

  const once = new SingleFlight<Probed & { readonly status: number }>({ failureMs, failures: 10_000 });
  const ping = {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      ...discoveryHeaders,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
  };

  /** Sends a POST. If the URL does not accept it, a GET for the stream of the legacy HTTP+SSE transport, which is closed at once. */
  async function askWithoutToken(route: Route): Promise<Probed & { readonly status: number }> {
    const url = endpointUrl(route);
    const posted = read(await routeFetch.probe(route, ping), url);
    const answer = readProbeAnswer(posted);
    const known = { ...answer, finding: answer.finding + posted.detour, ...posted };
    if (answer.meaning !== "unknown" || !takesNoPost(posted.status)) return known;
    try {
      const got = read(await routeFetch.probe(route, { headers: streamHeaders }), url);
      const better = readStreamAnswer(posted.status, got);
      if (!better) return known;
      const opensStream = better.meaning === "open" ? true : undefined;
      return { ...better, finding: better.finding + got.detour, ...got, opensStream };
    } catch (error) {
      const { message } = UpstreamOAuthError.from(error, "a GET for an event stream");
      return { ...known, finding: `${known.finding}; ${message}` };
    }
  }

  /** Probes the upstream without credentials; `ping` opens no session. */
  async function probe({ route, onStep }: Look): Promise<Probed> {
    const url = endpointUrl(route);
    try {
      const probed = await once.run(`${route.id} ${url}`, () => askWithoutToken(route));
      const { meaning, finding, status, opensStream } = probed;
      onStep({ name: "upstream", url, status, ok: meaning !== "unknown", finding, opensStream });
      return probed;
    } catch (error) {
      const failure = UpstreamOAuthError.from(error, "the upstream cannot be probed");
      const { message: finding } = failure;
      const status = error instanceof SafeFetchError ? error.status : undefined;
      onStep({ name: "upstream", url, status, ok: false, finding });
      // A redirect is a response, but an inconclusive one.
      if (status !== undefined) return { ...readProbeAnswer({ status }), status };
      return { meaning: "unknown", finding, failure };
    }
  }

  /** The upstream's responses to a call without credentials and to metadata requests. @param remembered from an earlier challenge */
  async function found(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const probed = known ?? (await probe(look));
    return { look, probed, ...(await resourceMetadata.search(look, namedIn(probed.challenge, remembered))) };
  }

  /**
   * The same if the endpoint is not configured: the first of two URLs that has metadata, else the first that asks for a token, else the
   * first that answers an MCP call.
   *
   * @param known the response of the first URL, if it has been probed already
   */
  async function sought(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const [first, second] = possibleEndpoints(look.route);
    if (!second) return found(look, remembered, known);
    const attempts: PromiseSettledResult<Found>[] = [];
    for (const route of [first, second]) {
      const [attempt] = await Promise.allSettled([
        found({ ...look, route }, remembered, route === first ? known : undefined),
      ]);
      if (attempt.status === "fulfilled" && attempt.value.found) return attempt.value;
      attempts.push(attempt);
    }
    const answered = attempts.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const telling =
      answered.find(({ probed }) => probed.meaning === "token_wanted") ??
      answered.find(({ probed }) => probed.meaning === "open" && (probed.status ?? 500) < 300) ??
      answered.find(({ probed }) => probed.meaning === "open");
    if (telling) return telling;
    const [attempt] = attempts;
    if (attempt?.status === "fulfilled") return attempt.value;
    throw attempt?.reason;
  }

  /** `sought`, remembered for `endpointPath`. */
  async function located(...asked: Parameters<typeof sought>): Promise<Found> {
    const result = await sought(...asked);
    if (!hasExplicitEndpoint(asked[0].route)) remember(result);
    return result;
  }

  /** If both are inconclusive, the previous result stays, and discovery is soon repeated. */
  function remember({ look: { route }, found, probed }: Found): void {
    const tells = found !== undefined || probed.meaning !== "unknown";
    const path = tells ? route.askedPath : (paths.get(placeOf(route))?.path ?? route.askedPath);
    const freshUntil = Date.now() + (tells ? pathTtlMs : failureMs);
    paths.set(placeOf(route), { path: path ?? "", freshUntil });
  }

  function locate(route: Route): Promise<string> {
    return locateOnce.run(placeOf(route), async () => {
      const { look } = await located({ route, onStep: () => {} });
      return paths.get(placeOf(route))?.path ?? look.route.askedPath ?? "";
    });
  }

  /** The fallback of the 2025-03-26 revision. */
  function defaultEndpoints(look: Look, origin: string): AuthorizationServer {
    look.onStep({
      name: "default_endpoints",
      url: `${origin}/authorize`,
      ok: true,
      finding: "no metadata anywhere: the default endpoints of the 2025-03-26 revision are used",
    });
    return {
      issuer: origin,
      authorization_endpoint: `${origin}/authorize`,
      token_endpoint: `${origin}/token`,
      registration_endpoint: `${origin}/register`,
    };
  }

  return {
    async server(route, hint = {}) {
      const asked = { route, onStep: hint.onStep ?? (() => {}) };
      const { look, probed, found: prm, unusable } = await located(asked, hint.resourceMetadata);
      const { challenge, failure: unreachable, ...answer } = probed;
      const common = {
        resource: prm?.resource ?? endpointUrl(look.route),
        scopes: challenge?.scopes.length ? challenge.scopes : (prm?.scopes ?? []),
        dpopRequired: prm?.dpopRequired === true || challenge?.dpopOnly === true,
        issuerKnown: true,
      };
      const expected = route.mcp.kind === "server" ? route.mcp.expectedIssuer : undefined;
      const described = (as: AuthorizationServer, issuer: string): UpstreamServer => {
        // Also if the metadata has the requested issuer: a server may alternate between both.
        const named = expected === undefined || sameIssuer(expected, new URL(issuer)) ? undefined : issuer;
        return { ...common, as: { ...as, issuer: expected ?? as.issuer }, named, hasMetadata: true };
      };
      const servers = prm?.authorizationServers ?? [];
      const own = hint.authorizationServerUrl;
      // Of several, the operator's first.
      const preferred = servers.filter((one) => own !== undefined && sameIssuer(one, new URL(own)));
      const issuers = servers.length ? [...new Set([...preferred, ...servers])] : own ? [own] : [];
      let failure: unknown;
      for (const issuer of issuers.slice(0, 3)) {
        try {
          const as = await serverMetadata.find(look, issuer, expected);
          if (as) return described(as, issuer);
        } catch (error) {
          failure ??= error;
        }
      }
      if (failure) throw failure;
      if (issuers.length) {
        throw new UpstreamOAuthError(
          "discovery_failed",
          `the authorization server ${issuers[0]} publishes no metadata: set upstream_oauth2.endpoint on the route`,
        );
      }
      const { origin } = new URL(route.upstream);
      const as = await serverMetadata.find(look, origin, expected);
      if (as) return described(as, origin);
      if (unreachable) throw unreachable;
      if (unusable !== undefined || expected !== undefined) {
        throw new UpstreamOAuthError(
          "discovery_failed",
          unusable === undefined
            ? `${origin} publishes no metadata for ${expected} (expected_issuer)`
            : `the resource metadata that the upstream's challenge names ${unusable}, and neither its well-known URLs nor ${origin} publish any: the default endpoints would be a guess`,
        );
      }
      if (answer.meaning === "unknown") {
        throw new UpstreamOAuthError(
          codeOfUnknown(answer.status),
          `${endpointUrl(look.route)} ${answer.finding}, and no metadata names an authorization server`,
          { status: answer.status, server: new URL(endpointUrl(look.route)).host },
        );
      }
      return {
        ...common,
        as: serverMetadata.checked(route, defaultEndpoints(look, origin)),
        hasMetadata: false,
      };
    },
    async needed(route, onStep = () => {}) {
      const look = { route, onStep };
      const first = await probe(look);
      if (first.meaning === "token_wanted") return { kind: "yes" };
      const { found: prm, probed } = await located(look, undefined, first);
      const { meaning, finding, status, failure } = probed;
      if (meaning === "token_wanted" || prm?.authorizationServers.length) return { kind: "yes" };
      if (failure) throw failure;
      if (meaning === "open") return { kind: "no" };
      // A server that predates resource metadata may publish metadata at its origin.
      const origin = await serverMetadata.find(look, new URL(route.upstream).origin).catch(() => undefined);
      return origin ? { kind: "yes" } : { kind: "unknown", finding, status };
    },
    async endpointPath(route) {
      if (hasExplicitEndpoint(route)) return listedPath(route) ?? "";
      const known = paths.get(placeOf(route));
      if (known === undefined) return locate(route);
      if (known.freshUntil > Date.now()) return known.path;
      const located = locate(route).catch(() => known.path);
      return withDeadline(located, repeatTimeoutMs, () => known.path);
    },
    forget: (route) => void paths.delete(placeOf(route)),
    async metadata(route, issuer, onStep = () => {}) {
      const as = await serverMetadata.find({ route, onStep }, issuer);
      if (as) return as;
      throw new UpstreamOAuthError(
        "discovery_failed",
        `the authorization server ${issuer} publishes no metadata`,
      );
    },
  };
}

function read(response: ProbeResponse, url: string) {
  const { status, headers } = response;
  const challenge = status >= 400 ? parseChallenge(headers.get("www-authenticate"), url) : undefined;
  const contentType = headers.get("content-type");
  return { status, headers, contentType, challenge, detour: detourOf(response) };
}

/** The URL of an earlier challenge, then the one of this challenge. */
function namedIn(challenge: UpstreamChallenge | undefined, remembered?: string): Named[] {
  const urls = [remembered, challenge?.resourceMetadata].filter((url) => url !== undefined);
  return [
    ...urls.map((url) => ({ url })),
    ...(challenge?.unreadableMetadata ? [{ unreadable: true } as const] : []),
  ];
}
