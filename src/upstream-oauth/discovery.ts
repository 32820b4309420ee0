import type { AuthorizationServer } from "oauth4webapi";
import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Logger } from "../telemetry/logger.ts";
import { readableScopes } from "./allowed-scopes.ts";
import { isAtUpstream } from "./is-at-upstream.ts";
import { joined } from "./joined.ts";
import { failureMs, type MetadataCache } from "./metadata-cache.ts";
import type { Outward } from "./outward.ts";
import { parseChallenge, type UpstreamChallenge } from "./parse-challenge.ts";
import { readFlag, readList, readServerMetadata } from "./read-metadata.ts";
import { resourceCovers } from "./resource-covers.ts";
import type { DiscoveryStep } from "./upstream-oauth.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";
import type { UpstreamServer } from "./upstream-server.ts";

/** Finds the authorization server behind a route's upstream (F4.1). */
export interface Discovery {
  /** @throws UpstreamOAuthError */
  server(route: Route, hint?: DiscoveryHint): Promise<UpstreamServer>;
  /** Whether the upstream asks for OAuth: it answers 401, or publishes resource metadata that names a server. */
  needed(route: Route, onStep?: OnStep): Promise<boolean>;
  /** Authorization server metadata of an issuer that is known already. */
  metadata(route: Route, issuer: string, onStep?: OnStep): Promise<AuthorizationServer>;
}
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

/** Of what an upstream names. */
const mostServers = 10;
const longestIssuer = 2048;

const prmPath = "/.well-known/oauth-protected-resource";

export function createDiscovery(deps: {
  routes: CurrentRoutes;
  outward: Outward;
  cache: MetadataCache;
  logger?: Pick<Logger, "warn">;
}): Discovery {
  const { outward, cache } = deps;

  const once = joined<Response>({ failureMs, failures: 10_000 });
  const ping = (route: Route) =>
    outward.probe(route, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    });

  /** Step 1: asks the upstream without credentials; `ping` opens no session anywhere. */
  async function probe({ route, onStep }: Look): Promise<{ status?: number; challenge?: UpstreamChallenge }> {
    const url = route.upstream;
    try {
      const response = await once(`${route.id} ${url}`, () => ping(route));
      const { status } = response;
      const challenge = await parseChallenge(response.headers.get("www-authenticate"));
      const finding = challenge?.resourceMetadata
        ? "asks for a token and says where its metadata is"
        : status === 401
          ? "asks for a token, without saying where its metadata is"
          : "answers without a token";
      onStep({ name: "upstream", url, status, ok: true, finding });
      return { status, challenge: status === 401 || status === 403 ? challenge : undefined };
    } catch (error) {
      const { message } = UpstreamOAuthError.from(error, "the upstream");
      onStep({ name: "upstream", url, ok: false, finding: message });
      return {};
    }
  }

  /**
   * Steps 2 to 4: the challenge's document, the well-known one of the path, the one at the root. What a challenge names elsewhere
   * than at the upstream is not asked for: nobody else says which authorization server the upstream has.
   */
  async function resourceMetadata(look: Look, fromChallenge?: string): Promise<ResourceMetadata | undefined> {
    const upstream = new URL(look.route.upstream);
    const path = upstream.pathname.replace(/\/$/, "");
    const urls = new Set([`${upstream.origin}${prmPath}${path}`, `${upstream.origin}${prmPath}`]);
    const named =
      fromChallenge !== undefined && isAtUpstream(look.route, fromChallenge) ? [fromChallenge] : [];
    if (fromChallenge !== undefined && named.length === 0) {
      const finding = "is ignored: the challenge names a place that is not the upstream's own";
      look.onStep({ name: "resource_metadata", url: fromChallenge, ok: false, finding });
      const place = { route: look.route.id, resourceMetadata: fromChallenge.slice(0, 512) };
      deps.logger?.warn(
        place,
        "resource_metadata of a challenge ignored: it is not on the upstream's origin",
      );
    }
    for (const url of new Set([...named, ...urls])) {
      const found = await oneResourceMetadata(look, url);
      if (found) return found;
    }
    return undefined;
  }

  async function oneResourceMetadata(
    { route, onStep }: Look,
    url: string,
  ): Promise<ResourceMetadata | undefined> {
    const step = { name: "resource_metadata", url } as const;
    let document: Awaited<ReturnType<MetadataCache["get"]>>;
    try {
      document = await cache.get(route.id, url, outward.fetchFor(route));
    } catch (error) {
      onStep({ ...step, ok: false, finding: UpstreamOAuthError.from(error, "not fetched").message });
      return undefined;
    }
    const { status, json } = document;
    if (!json || typeof json.resource !== "string") {
      const finding = status === 200 ? "is no protected resource metadata" : "is not there";
      onStep({ ...step, status, ok: false, finding });
      return undefined;
    }
    if (!resourceCovers(json.resource, route.upstream)) {
      const finding = "describes another resource than the route's upstream";
      onStep({ ...step, status, ok: false, finding });
      throw new UpstreamOAuthError(
        "resource_mismatch",
        `the metadata at ${url} ${finding} (${route.upstream}): the route's \`to\` must be the URL the server calls itself`,
        { detail: json.resource },
      );
    }
    const authorizationServers = readList(json.authorization_servers)
      .slice(0, mostServers)
      .filter((one) => one.length <= longestIssuer && URL.canParse(one));
    const finding = authorizationServers[0]
      ? `names the authorization server ${authorizationServers[0]}`
      : "names no authorization server";
    onStep({ ...step, status, ok: true, finding });
    return {
      resource: json.resource,
      authorizationServers,
      scopes: readableScopes(readList(json.scopes_supported)),
      dpopRequired: readFlag(json.dpop_bound_access_tokens_required) === true,
    };
  }

  /** RFC 8414 section 3.1, then OpenID Connect Discovery, in the three forms that servers use. */
  async function metadata({ route, onStep }: Look, issuer: string): Promise<AuthorizationServer | undefined> {
    const base = new URL(issuer);
    const path = base.pathname.replace(/\/$/, "");
    const urls = [
      `${base.origin}/.well-known/oauth-authorization-server${path}`,
      `${base.origin}/.well-known/openid-configuration${path}`,
      ...(path ? [`${base.origin}${path}/.well-known/openid-configuration`] : []),
    ];
    checkDomain(base);
    let failure: UpstreamOAuthError | undefined;
    for (const url of urls) {
      const step = { name: "server_metadata", url } as const;
      try {
        const { status, json } = await cache.get(route.id, url, outward.fetchFor(route));
        const as = json && readServerMetadata(json);
        if (!as) {
          const finding = status === 200 ? "is no authorization server metadata" : "is not there";
          onStep({ ...step, status, ok: false, finding });
          if (status >= 500) {
            failure ??= new UpstreamOAuthError("server_error", `${base.host} failed (${status})`);
          }
          continue;
        }
        if (!sameIssuer(as.issuer, base)) {
          onStep({ ...step, status, ok: false, finding: "is another issuer's" });
          failure = new UpstreamOAuthError(
            "issuer_mismatch",
            `the metadata at ${url} is not of the issuer asked for, ${issuer}`,
            { detail: as.issuer },
          );
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
      const look: Look = { route, onStep: hint.onStep ?? (() => {}) };
      const { status, challenge } = await probe(look);
      const hinted = hint.resourceMetadata;
      const remembered = hinted !== undefined && isAtUpstream(route, hinted) ? hinted : undefined;
      const prm = await resourceMetadata(look, remembered ?? challenge?.resourceMetadata);
      const common = {
        resource: prm?.resource ?? route.upstream,
        scopes: challenge?.scopes.length ? challenge.scopes : (prm?.scopes ?? []),
        dpopRequired: prm?.dpopRequired === true || challenge?.dpopOnly === true,
        issuerKnown: true,
      };
      const named = prm?.authorizationServers ?? [];
      const own = hint.authorizationServerUrl;
      // Of several the operator's, where it is among them.
      const preferred = named.filter((one) => own !== undefined && sameIssuer(one, new URL(own)));
      const issuers = named.length ? [...new Set([...preferred, ...named])] : own ? [own] : [];
      let failure: unknown;
      for (const issuer of issuers.slice(0, 3)) {
        try {
          const as = await metadata(look, issuer);
          if (as) return { ...common, as, hasMetadata: true };
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
      const as = await metadata(look, origin);
      if (as) return { ...common, as, hasMetadata: true };
      if (status === undefined) {
        throw new UpstreamOAuthError("unreachable", `the upstream ${origin} could not be reached`);
      }
      return {
        ...common,
        as: checked(route, defaultEndpoints(look, origin)),
        hasMetadata: false,
      };
    },
    async needed(route, onStep = () => {}) {
      const look = { route, onStep };
      const { status, challenge } = await probe(look);
      if (status === 401) return true;
      const prm = await resourceMetadata(look, challenge?.resourceMetadata);
      if (prm) return prm.authorizationServers.length > 0;
      if (status !== undefined) return false;
      throw new UpstreamOAuthError("unreachable", `the upstream of route ${route.id} could not be reached`);
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

/** Equal but for the slash that URLs add to a bare origin. */
function sameIssuer(text: string, asked: URL): boolean {
  return URL.canParse(text) && new URL(text).href === asked.href;
}
