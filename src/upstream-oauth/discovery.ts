import { LRUCache } from "lru-cache";
import type { AuthorizationServer } from "oauth4webapi";
import { endpointUrl, listedPath, saysWhere, usualEndpoint } from "../config/endpoint.ts";
import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Logger } from "../telemetry/logger.ts";
import { readableScopes } from "./allowed-scopes.ts";
import { detourOf, type ProbeResponse } from "./follow-own-redirects.ts";
import { atUpstream } from "./is-at-upstream.ts";
import { joined } from "./joined.ts";
import { discoveryHeaders, failureMs, type MetadataCache } from "./metadata-cache.ts";
import type { Outward } from "./outward.ts";
import { parseChallenge, type UpstreamChallenge } from "./parse-challenge.ts";
import { codeOfUnknown, type ProbeAnswer, readProbeAnswer } from "./probe-answer.ts";
import { readFlag, readList, readServerMetadata, readText } from "./read-metadata.ts";
import { isResource, resourceCovers } from "./resource-covers.ts";
import { SafeFetchError } from "./safe-fetch-error.ts";
import type { DiscoveryStep } from "./upstream-oauth.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";
import type { UpstreamServer } from "./upstream-server.ts";

/** Finds the authorization server behind a route's upstream. */
export interface Discovery {
  /** @throws UpstreamOAuthError */
  server(route: Route, hint?: DiscoveryHint): Promise<UpstreamServer>;
  /**
   * Whether the upstream asks for OAuth: it asks for a token, or publishes metadata that names a server.
   *
   * @throws UpstreamOAuthError where it cannot be reached, or describes itself wrongly
   */
  needed(route: Route, onStep?: OnStep): Promise<Need>;
  /** Path below the route's `from` of its MCP endpoint, as far as it is known or can be found: "" for `from` itself. */
  endpointPath(route: Route): Promise<string>;
  /** Authorization server metadata of an issuer that is known already. */
  metadata(route: Route, issuer: string, onStep?: OnStep): Promise<AuthorizationServer>;
}
/** `unknown`: what answered was not an MCP server, or could not say. */
export type Need =
  | { readonly kind: "yes" | "no" }
  | { readonly kind: "unknown"; readonly finding: string; readonly status?: number };
export interface DiscoveryHint {
  /** `resource_metadata` of a challenge seen earlier. */
  readonly resourceMetadata?: string;
  readonly authorizationServerUrl?: string;
  readonly onStep?: OnStep;
}
type OnStep = (step: DiscoveryStep) => void;

interface ResourceMetadata {
  readonly resource: string;
  readonly authorizationServers: readonly string[];
  readonly scopes: readonly string[];
  readonly dpopRequired: boolean;
}
interface Look {
  readonly route: Route;
  readonly onStep: OnStep;
}
interface Probed extends ProbeAnswer {
  readonly status?: number;
  readonly challenge?: UpstreamChallenge;
  /** There was no answer. */
  readonly failure?: UpstreamOAuthError;
}
/** What a challenge says about resource metadata: a URL, or something that is none. */
type Named = { readonly url: string } | { readonly unreadable: true };
/** What the search for resource metadata came to. */
interface Searched {
  readonly found?: ResourceMetadata;
  /** Why the document that the upstream's challenge names is of no use. */
  readonly unusable?: string;
}

interface Found extends Searched {
  /** With the route as seen from where its endpoint is. */
  readonly look: Look;
  readonly probed: Probed;
}

/** How long a server is taken to have its endpoint where it was found, ms. */
const pathTtlMs = 600_000;

/** Of what an upstream names. */
const mostServers = 10;
const longestIssuer = 2048;

const prmPath = "/.well-known/oauth-protected-resource";

export function createDiscovery(deps: {
  routes: CurrentRoutes;
  outward: Outward;
  cache: MetadataCache;
  logger?: Pick<Logger, "warn" | "info">;
}): Discovery {
  const { outward, cache } = deps;

  /** Found paths by route and upstream. */
  const paths = new LRUCache<string, string>({ max: 10_000, ttl: pathTtlMs });

  const once = joined<ProbeResponse>({ failureMs, failures: 10_000 });
  const ping = (route: Route) =>
    outward.probe(route, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        ...discoveryHeaders,
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    });

  /** Asks the upstream without credentials; `ping` opens no session anywhere. */
  async function probe({ route, onStep }: Look): Promise<Probed> {
    const url = endpointUrl(route);
    try {
      const response = await once(`${route.id} ${url}`, () => ping(route));
      const { status } = response;
      const challenge =
        status >= 400 ? parseChallenge(response.headers.get("www-authenticate"), url) : undefined;
      const answer = readProbeAnswer({
        status,
        contentType: response.headers.get("content-type"),
        challenge,
      });
      const finding = answer.finding + detourOf(response);
      onStep({ name: "upstream", url, status, ok: answer.meaning !== "unknown", finding });
      return { ...answer, status, challenge };
    } catch (error) {
      const failure = UpstreamOAuthError.from(error, "the upstream cannot be asked");
      const { message: finding } = failure;
      const status = error instanceof SafeFetchError ? error.status : undefined;
      onStep({ name: "upstream", url, status, ok: false, finding });
      // A redirect is an answer, though none that says anything.
      if (status !== undefined) return { ...readProbeAnswer({ status }), status };
      return { meaning: "unknown", finding, failure };
    }
  }

  /**
   * The document that a challenge names, the well-known one of the path, the one at the root. What a challenge names elsewhere than
   * at the upstream is not asked for: nobody else says which authorization server the upstream has.
   *
   * @throws UpstreamOAuthError `resource_mismatch` where a document describes another resource, and none this one
   */
  async function resourceMetadata(look: Look, named: readonly Named[]): Promise<Searched> {
    const upstream = new URL(endpointUrl(look.route));
    const path = upstream.pathname.replace(/\/$/, "");
    // RFC 9728 section 3.1: a query is part of the place; most servers know one document for all of them.
    const places = [`${prmPath}${path}${upstream.search}`, `${prmPath}${path}`, prmPath];
    const tried = new Set<string>();
    let unusable: string | undefined;
    let mismatch: UpstreamOAuthError | undefined;
    async function tryOne(url: string, by: Look = look): Promise<ResourceMetadata | string> {
      try {
        return await oneResourceMetadata(by, url);
      } catch (error) {
        mismatch ??= UpstreamOAuthError.from(error, "resource metadata");
        return mismatch.message;
      }
    }
    const note =
      "the resource metadata that the server's challenge names is of no use: its owner should correct it";
    const noted: Look = { ...look, onStep: (step) => look.onStep(step.ok ? step : { ...step, note }) };
    for (const one of named) {
      const outcome = await tryNamed(noted, one, tried, (url) => tryOne(url, noted));
      if (typeof outcome === "object") return { found: outcome };
      if (outcome === undefined) continue;
      unusable ??= outcome;
      const url = "url" in one ? one.url.slice(0, 512) : undefined;
      deps.logger?.warn(
        { route: look.route.id, resourceMetadata: url, finding: outcome },
        "resource_metadata of a challenge ignored: the well-known places are asked instead",
      );
    }
    for (const place of places) {
      const url = upstream.origin + place;
      if (tried.has(url)) continue;
      tried.add(url);
      const outcome = await tryOne(url);
      if (typeof outcome === "object") return { found: outcome, unusable };
    }
    if (mismatch) throw mismatch;
    return { unusable };
  }

  /** @returns the document, why it is of no use, or undefined where it has been tried already */
  async function tryNamed(
    { route, onStep }: Look,
    named: Named,
    tried: Set<string>,
    tryOne: (url: string) => Promise<ResourceMetadata | string>,
  ): Promise<ResourceMetadata | string | undefined> {
    const step = { name: "resource_metadata", ok: false } as const;
    if (!("url" in named)) {
      const finding = "is ignored: the challenge names it by something that is not a URL";
      onStep({ ...step, finding });
      return finding;
    }
    const url = atUpstream(route, named.url);
    if (url === undefined) {
      const finding =
        "is ignored: it is not on the upstream's origin, and nobody else speaks for the upstream";
      onStep({ ...step, url: named.url, finding });
      return finding;
    }
    if (tried.has(url)) return undefined;
    tried.add(url);
    return tryOne(url);
  }

  /** The upstream's own answers: to a call without credentials, and about its metadata. @param remembered of an earlier challenge */
  async function found(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const probed = known ?? (await probe(look));
    return { look, probed, ...(await resourceMetadata(look, namedIn(probed.challenge, remembered))) };
  }

  /**
   * The same where nobody says where the endpoint is: the first of two places that has metadata, else the first that asks for a token,
   * else the first that answers an MCP call.
   *
   * @param known what the first place has answered, where it has been asked already
   */
  async function sought(look: Look, remembered?: string, known?: Probed): Promise<Found> {
    const usual = usualEndpoint(look.route);
    if (saysWhere(look.route) || endpointUrl(usual) === endpointUrl(look.route))
      return found(look, remembered, known);
    const attempts: PromiseSettledResult<Found>[] = [];
    for (const route of [look.route, usual]) {
      const [attempt] = await Promise.allSettled([
        found({ ...look, route }, remembered, route === look.route ? known : undefined),
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
    const [first] = attempts;
    if (first?.status === "fulfilled") return first.value;
    throw first?.reason;
  }

  /** `sought`, remembered for `endpointPath`. */
  async function located(...asked: Parameters<typeof sought>): Promise<Found> {
    const result = await sought(...asked);
    const { route } = result.look;
    if (!saysWhere(asked[0].route)) paths.set(`${route.id} ${route.upstream}`, route.askedPath ?? "");
    return result;
  }

  /** @returns the document, or why it is of no use. @throws UpstreamOAuthError `resource_mismatch` */
  async function oneResourceMetadata(
    { route, onStep }: Look,
    url: string,
  ): Promise<ResourceMetadata | string> {
    const step = { name: "resource_metadata", url } as const;
    let document: Awaited<ReturnType<MetadataCache["get"]>>;
    try {
      document = await cache.get(route.id, url, outward.metadataFetchFor(route));
    } catch (error) {
      const finding = UpstreamOAuthError.from(error, "not fetched").message;
      onStep({ ...step, ok: false, finding });
      return finding;
    }
    const { status, json } = document;
    const resource = readText(json?.resource);
    if (!json || resource === undefined) {
      const finding = json ? "names no resource" : notThere(status, "protected resource metadata");
      onStep({ ...step, status, ok: false, finding });
      return finding;
    }
    const exact = route.mcp.kind === "server" && route.mcp.exactResource === true;
    const upstream = endpointUrl(route);
    const isOwn = isResource(resource, upstream);
    if (!isOwn && (exact || !resourceCovers(resource, upstream))) {
      const which = resourceCovers(resource, upstream)
        ? "describes a resource above the route's upstream, which `resource: exact` does not accept"
        : "describes another resource than the route's upstream";
      onStep({ ...step, status, ok: false, finding: `${which}: ${resource.slice(0, 512)}` });
      throw new UpstreamOAuthError(
        "resource_mismatch",
        `the metadata at ${url} ${which} (${upstream}): the route's \`to\` must be the URL the server calls itself`,
        { detail: resource },
      );
    }
    const authorizationServers = readList(json.authorization_servers)
      .slice(0, mostServers)
      .filter((one) => one.length <= longestIssuer && URL.canParse(one));
    const server = authorizationServers[0]
      ? `names the authorization server ${authorizationServers[0]}`
      : "names no authorization server";
    const above = isOwn ? "" : `; its resource is above \`to\`: ${resource}`;
    onStep({
      ...step,
      status,
      ok: true,
      finding: server + above,
      ...(isOwn ? {} : { note: parentNote(resource) }),
    });
    if (!isOwn) {
      const place = { route: route.id, upstream, resource };
      deps.logger?.info(
        place,
        "the upstream's resource metadata is for a URL above `to`, and so are its tokens",
      );
    }
    return {
      resource,
      authorizationServers,
      scopes: readableScopes(readList(json.scopes_supported)),
      dpopRequired: readFlag(json.dpop_bound_access_tokens_required) === true,
    };
  }

  /**
   * RFC 8414 section 3.1, then OpenID Connect Discovery, in the three forms that servers use; at last, for an issuer with a path, the
   * root of its host.
   *
   * @param expected the operator's `expected_issuer`, accepted beside the issuer asked for
   * @throws UpstreamOAuthError
   */
  async function metadata(
    { route, onStep }: Look,
    issuer: string,
    expected?: string,
  ): Promise<AuthorizationServer | undefined> {
    const base = new URL(issuer);
    const path = base.pathname.replace(/\/$/, "");
    const kinds = ["oauth-authorization-server", "openid-configuration"].map(
      (kind) => `/.well-known/${kind}`,
    );
    const places = [
      ...kinds.map((kind) => `${kind}${path}`),
      ...(path ? [`${path}/.well-known/openid-configuration`, ...kinds] : []),
    ];
    checkDomain(base);
    let failure: UpstreamOAuthError | undefined;
    for (const place of places) {
      const url = base.origin + place;
      const step = { name: "server_metadata", url } as const;
      try {
        const { status, json } = await cache.get(route.id, url, outward.metadataFetchFor(route));
        const as = json && readServerMetadata(json);
        if (!as) {
          const finding = json ? "names no issuer" : notThere(status, "authorization server metadata");
          onStep({ ...step, status, ok: false, finding });
          if (status >= 500) {
            failure ??= new UpstreamOAuthError("server_error", `${base.host} failed (${status})`);
          }
          continue;
        }
        if (as.issuer !== expected && !sameIssuer(as.issuer, base)) {
          const names = `names the issuer ${inWords(as.issuer)}, not ${expected ?? issuer}`;
          onStep({ ...step, status, ok: false, finding: names });
          // The root of a shared host may well be somebody else's.
          if (path && kinds.includes(place)) failure ??= mismatched(url, names, as.issuer, expected);
          else failure = mismatched(url, names, as.issuer, expected);
          continue;
        }
        onStep({ ...step, status, ok: true, finding: `describes ${as.issuer}` });
        return checked(route, as);
      } catch (error) {
        failure = UpstreamOAuthError.from(error, "authorization server metadata");
        onStep({ ...step, ok: false, finding: failure.message });
      }
    }
    if (failure) throw failure;
    return undefined;
  }

  /** `allowed_as_metadata_domains` (F4.8). */
  function checkDomain(issuer: URL): void {
    const allowed = deps.routes().config.upstreamOAuth.allowedAsMetadataDomains;
    if (allowed.length === 0) return;
    const host = issuer.hostname;
    const fits = allowed.some((one) => (one.startsWith("*.") ? host.endsWith(one.slice(1)) : host === one));
    if (fits) return;
    throw new UpstreamOAuthError(
      "metadata_domain_not_allowed",
      `the authorization server ${issuer.host} is not among allowed_as_metadata_domains`,
    );
  }

  /** Endpoints must be usable before a person is sent on a trip (F8.5). */
  function checked(route: Route, as: AuthorizationServer): AuthorizationServer {
    const names = [
      "authorization_endpoint",
      "token_endpoint",
      "registration_endpoint",
      "revocation_endpoint",
    ] as const;
    for (const name of names) {
      const value = as[name];
      if (value !== undefined) outward.checkEndpoint(route, name, String(value));
    }
    return as;
  }

  /** The 2025-03-26 revision's last resort. */
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
        // Also where the metadata names the issuer asked for: a server that does so by turns is one server.
        const named = expected === undefined || sameIssuer(expected, new URL(issuer)) ? undefined : issuer;
        return { ...common, as: { ...as, issuer: expected ?? as.issuer }, named, hasMetadata: true };
      };
      const servers = prm?.authorizationServers ?? [];
      const own = hint.authorizationServerUrl;
      // Of several the operator's, where it is among them.
      const preferred = servers.filter((one) => own !== undefined && sameIssuer(one, new URL(own)));
      const issuers = servers.length ? [...new Set([...preferred, ...servers])] : own ? [own] : [];
      let failure: unknown;
      for (const issuer of issuers.slice(0, 3)) {
        try {
          const as = await metadata(look, issuer, expected);
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
      const as = await metadata(look, origin, expected);
      if (as) return described(as, origin);
      if (unreachable) throw unreachable;
      if (unusable !== undefined || expected !== undefined) {
        throw new UpstreamOAuthError(
          "discovery_failed",
          unusable === undefined
            ? `nothing at ${origin} publishes metadata of ${expected} (expected_issuer)`
            : `the resource metadata that the upstream's challenge names ${unusable}, and neither its well-known places nor ${origin} publish any: the default endpoints would be a guess`,
        );
      }
      if (answer.meaning === "unknown") {
        throw new UpstreamOAuthError(
          codeOfUnknown(answer.status),
          `${endpointUrl(look.route)} ${answer.finding}, and no metadata names an authorization server`,
        );
      }
      return {
        ...common,
        as: checked(route, defaultEndpoints(look, origin)),
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
      // Of a server from before there was resource metadata, the origin may tell.
      const origin = await metadata(look, new URL(route.upstream).origin).catch(() => undefined);
      return origin ? { kind: "yes" } : { kind: "unknown", finding, status };
    },
    async endpointPath(route) {
      if (saysWhere(route)) return listedPath(route) ?? "";
      const known = paths.get(`${route.id} ${route.upstream}`);
      return known ?? (await located({ route, onStep: () => {} })).look.route.askedPath ?? "";
    },
    async metadata(route, issuer, onStep = () => {}) {
      const as = await metadata({ route, onStep }, issuer);
      if (as) return as;
      throw new UpstreamOAuthError(
        "discovery_failed",
        `the authorization server ${issuer} publishes no metadata`,
      );
    },
  };
}

/** What is remembered of an earlier challenge, then what this one names. */
function namedIn(challenge: UpstreamChallenge | undefined, remembered?: string): Named[] {
  const urls = [remembered, challenge?.resourceMetadata].filter((url) => url !== undefined);
  return [
    ...urls.map((url) => ({ url })),
    ...(challenge?.unreadableMetadata ? [{ unreadable: true } as const] : []),
  ];
}

function notThere(status: number, what: string): string {
  return status >= 200 && status < 300 ? `is not ${what}` : "is not there";
}

function parentNote(resource: string): string {
  return `tokens are asked for ${resource}, which is above \`to\`; mcp.server.resource: exact refuses that`;
}

function mismatched(
  url: string,
  names: string,
  theirs: string,
  expected: string | undefined,
): UpstreamOAuthError {
  const key =
    expected === undefined ? "set mcp.server.expected_issuer" : "correct mcp.server.expected_issuer";
  return new UpstreamOAuthError(
    "issuer_mismatch",
    `the metadata at ${url} ${names}: if the server's owner means it so, ${key} on the route to exactly what it names`,
    { detail: theirs },
  );
}

/** Another server's words may be shown where they are a plain URL. */
function inWords(issuer: string): string {
  return issuer.length <= 200 && /^https?:\/\/[\w.~:/{}[\]%-]+$/.test(issuer)
    ? issuer
    : "of something that is not a URL";
}

/** Equal but for the slash that URLs add to a bare origin. */
function sameIssuer(text: string, asked: URL): boolean {
  return URL.canParse(text) && new URL(text).href === asked.href;
}
