import type { AuthorizationServer } from "oauth4webapi";
import { endpointUrl, hasExplicitEndpoint, listedPath, possibleEndpoints } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { SafeFetchError } from "../egress/errors.ts";
import { aggregateOf, type Route } from "../model/route.ts";
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
type Answered = Probed & { readonly status: number };
interface Found extends Searched {
  /** With the route at its endpoint. */
  readonly look: Look;
  readonly probed: Probed;
}

/** How long a discovered endpoint is fresh, ms: the minimum for metadata. */
const pathTtlMs = 60_000;
/** How long to wait for a repeated discovery before the previous result is used, ms. */
const repeatTimeoutMs = 2000;

/** A call that opens no session. */
export const ping = {
  method: "POST",
  headers: {
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    ...discoveryHeaders,
  },
  body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
};

/** Finds the authorization server behind a route's upstream. */
export class Discovery {
  readonly #routeFetch: RouteFetch;
  readonly #resourceMetadata: ReturnType<typeof createResourceMetadata>;
  readonly #serverMetadata: ReturnType<typeof createServerMetadata>;
  /** Discovered paths by route and upstream, and until when they are fresh, ms. */
  readonly #paths = boundedCache<string, { readonly path: string; readonly freshUntil: number }>(10_000);
  readonly #locating = new SingleFlight<string>({ failureMs, failures: 10_000 });
  readonly #probing = new SingleFlight<Answered>({ failureMs, failures: 10_000 });

  constructor(deps: {
    routes: CurrentRoutes;
    routeFetch: RouteFetch;
    cache: MetadataCache;
    logger?: Pick<Logger, "warn" | "info">;
  }) {
    this.#routeFetch = deps.routeFetch;
    this.#resourceMetadata = createResourceMetadata(deps);
    this.#serverMetadata = createServerMetadata(deps);
  }

  /** The authorization server of an upstream. @throws UpstreamOAuthError */
  async server(route: Route, hint: DiscoveryHint = {}): Promise<UpstreamServer> {
    const asked = { route, onStep: hint.onStep ?? (() => {}) };
    const { look, probed, found: prm, unusable } = await this.#findAndRemember(asked, hint.resourceMetadata);
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
        const as = await this.#serverMetadata.find(look, issuer, expected);
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
    const as = await this.#serverMetadata.find(look, origin, expected);
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
      as: this.#serverMetadata.checked(route, this.#defaultEndpoints(look, origin)),
      hasMetadata: false,
    };
  }

  /**
   * Whether the upstream requires OAuth: it asks for a token, or publishes metadata that names an authorization server.
   *
   * @throws UpstreamOAuthError if it cannot be reached, or its metadata is wrong
   */
  async needed(route: Route, onStep: OnStep = () => {}): Promise<Need> {
    const look = { route, onStep };
    const first = await this.#probe(look);
    if (first.meaning === "token_wanted") return { kind: "yes" };
    const { found: prm, probed } = await this.#findAndRemember(look, undefined, first);
    const { meaning, finding, status, failure } = probed;
    if (meaning === "token_wanted" || prm?.authorizationServers.length) return { kind: "yes" };
    if (failure) throw failure;
    if (meaning === "open") return { kind: "no" };
    // A server that predates resource metadata may publish metadata at its origin.
    const origin = await this.#serverMetadata
      .find(look, new URL(route.upstream).origin)
      .catch(() => undefined);
    return origin ? { kind: "yes" } : { kind: "unknown", finding, status };
  }

  /** Path of the MCP endpoint below the route's `from`, known or discovered: "" for `from` itself. */
  async endpointPath(route: Route): Promise<string> {
    // The gateway itself answers for an aggregated route: there is nothing to discover.
    if (hasExplicitEndpoint(route) || aggregateOf(route)) return listedPath(route) ?? "";
    const known = this.#paths.get(pathKey(route));
    if (known === undefined) return this.#locate(route);
    if (known.freshUntil > Date.now()) return known.path;
    const located = this.#locate(route).catch(() => known.path);
    return withDeadline(located, repeatTimeoutMs, () => known.path);
  }

  /** Discards the discovered endpoint of the route. */
  forget(route: Route): void {
    this.#paths.delete(pathKey(route));
  }

  /** Authorization server metadata of a known issuer. */
  async metadata(route: Route, issuer: string, onStep: OnStep = () => {}): Promise<AuthorizationServer> {
    const as = await this.#serverMetadata.find({ route, onStep }, issuer);
    if (as) return as;
    throw new UpstreamOAuthError(
      "discovery_failed",
      `the authorization server ${issuer} publishes no metadata`,
    );
  }

  /** Sends a POST. If the URL does not accept it, a GET for the stream of the legacy HTTP+SSE transport, which is closed at once. */
  async #call(route: Route): Promise<Answered> {
    const url = endpointUrl(route);
    const posted = read(await this.#routeFetch.probe(route, ping), url);
    const answer = readProbeAnswer(posted);
    const known = { ...answer, finding: answer.finding + posted.detour, ...posted };
    if (answer.meaning !== "unknown" || !takesNoPost(posted.status)) return known;
    try {
      const got = read(await this.#routeFetch.probe(route, { headers: streamHeaders }), url);
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
  async #probe({ route, onStep }: Look): Promise<Probed> {
    const url = endpointUrl(route);
    try {
      const probed = await this.#probing.run(`${route.id} ${url}`, () => this.#call(route));
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
  async #inspect(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const probed = known ?? (await this.#probe(look));
    return {
      look,
      probed,
      ...(await this.#resourceMetadata.search(look, namedIn(probed.challenge, remembered))),
    };
  }

  /**
   * The same if the endpoint is not configured: the first of two URLs that has metadata, else the first that asks for a token, else the
   * first that answers an MCP call.
   *
   * @param known the response of the first URL, if it has been probed already
   */
  async #findEndpoint(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const [first, second] = possibleEndpoints(look.route);
    if (!second) return this.#inspect(look, remembered, known);
    const attempts: PromiseSettledResult<Found>[] = [];
    for (const route of [first, second]) {
      const [attempt] = await Promise.allSettled([
        this.#inspect({ ...look, route }, remembered, route === first ? known : undefined),
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

  /** `#findEndpoint`, remembered for `endpointPath`. */
  async #findAndRemember(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const result = await this.#findEndpoint(look, remembered, known);
    if (!hasExplicitEndpoint(look.route)) this.#remember(result);
    return result;
  }

  /** If both are inconclusive, the previous result stays, and discovery is soon repeated. */
  #remember({ look: { route }, found, probed }: Found): void {
    const tells = found !== undefined || probed.meaning !== "unknown";
    const path = tells ? route.askedPath : (this.#paths.get(pathKey(route))?.path ?? route.askedPath);
    const freshUntil = Date.now() + (tells ? pathTtlMs : failureMs);
    this.#paths.set(pathKey(route), { path: path ?? "", freshUntil });
  }

  #locate(route: Route): Promise<string> {
    return this.#locating.run(pathKey(route), async () => {
      const { look } = await this.#findAndRemember({ route, onStep: () => {} });
      return this.#paths.get(pathKey(route))?.path ?? look.route.askedPath ?? "";
    });
  }

  /** The fallback of the 2025-03-26 revision. */
  #defaultEndpoints(look: Look, origin: string): AuthorizationServer {
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
}

function pathKey({ id, upstream }: Route): string {
  return `${id} ${upstream}`;
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
