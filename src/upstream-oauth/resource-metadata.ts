import { endpointUrl } from "../config/paths.ts";
import type { Route } from "../model/route.ts";
import type { Logger } from "../telemetry/logger.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { flagOf, textOf, textsOf } from "./json.ts";
import type { MetadataCache } from "./metadata-cache.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { type Look, notThere } from "./server-metadata.ts";
import { readableScopes } from "./www-authenticate.ts";

/** Whether a protected resource's identifier equals a URL, except for a trailing slash of the path. */
export function isResource(resource: string, url: string): boolean {
  const bare = bareHref(resource);
  return bare !== undefined && bare === bareHref(url);
}

/**
 * Whether a protected resource's identifier covers a URL: same origin, and its path is equal or above (RFC 9728 section 3.3). With a query,
 * path and query must be equal: servers distinguish tenants by it.
 */
export function resourceCovers(resource: string, url: string): boolean {
  if (!URL.canParse(resource)) return false;
  const outer = new URL(resource);
  const inner = new URL(url);
  if (outer.search !== "") return isResource(resource, url);
  if (outer.origin !== inner.origin || outer.username + outer.password + outer.hash !== "") return false;
  const path = outer.pathname.replace(/\/$/, "");
  return inner.pathname === path || inner.pathname === `${path}/` || inner.pathname.startsWith(`${path}/`);
}

function bareHref(text: string): string | undefined {
  const url = URL.parse(text);
  if (url === null) return undefined;
  url.pathname = url.pathname.replace(/\/$/, "");
  return url.href;
}

/** Whether a URL that a route's upstream names is its own: on the origin of one of its `to`. */
export function isAtUpstream(route: Pick<Route, "to">, url: string): boolean {
  return atUpstream(route, url) !== undefined;
}

/**
 * Resolves a URL that a route's upstream names, if it is the upstream's own. A server behind a TLS terminator may name itself with `http`:
 * such a URL is requested by https, like the upstream.
 *
 * @returns undefined if it is not the upstream's
 */
export function atUpstream(route: Pick<Route, "to">, url: string): string | undefined {
  const named = URL.parse(url);
  if (named === null || named.username + named.password !== "") return undefined;
  for (const one of route.to) {
    const { origin, protocol, host } = new URL(one);
    if (named.origin === origin) return named.href;
    if (named.protocol === "http:" && protocol === "https:" && named.host === host) {
      return origin + named.pathname + named.search;
    }
  }
  return undefined;
}

/** The used members of protected-resource metadata (RFC 9728). */
export interface ResourceMetadata {
  readonly resource: string;
  readonly authorizationServers: readonly string[];
  readonly scopes: readonly string[];
  readonly dpopRequired: boolean;
}
/** `resource_metadata` of a challenge: a URL, or something that is not a URL. */
export type Named = { readonly url: string } | { readonly unreadable: true };
/** The result of the search for resource metadata. */
export interface Searched {
  readonly found?: ResourceMetadata;
  /** Why the document that the upstream's challenge names is not usable. */
  readonly unusable?: string;
}

/** Limits on authorization servers that an upstream names. */
const maxServers = 10;
const maxIssuerLength = 2048;

const prmPath = "/.well-known/oauth-protected-resource";

/** Finds and reads protected-resource metadata. */
export function createResourceMetadata({
  routeFetch,
  cache,
  logger,
}: {
  routeFetch: RouteFetch;
  cache: MetadataCache;
  logger?: Pick<Logger, "warn" | "info">;
}): { search(look: Look, named: readonly Named[]): Promise<Searched> } {
  /**
   * Tries the document that a challenge names, the well-known URL of the path, and the one at the root. A document on another origin is not
   * requested: only the upstream itself may name its authorization server.
   *
   * @throws UpstreamOAuthError `resource_mismatch` if a document describes another resource, and none describes this one
   */
  async function search(look: Look, named: readonly Named[]): Promise<Searched> {
    const upstream = new URL(endpointUrl(look.route));
    const path = upstream.pathname.replace(/\/$/, "");
    // RFC 9728 section 3.1: a query is part of the URL; most servers have one document for all queries.
    const candidates = [`${prmPath}${path}${upstream.search}`, `${prmPath}${path}`, prmPath];
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
      "the resource metadata that the server's challenge names is not usable: its owner should correct it";
    const noted: Look = { ...look, onStep: (step) => look.onStep(step.ok ? step : { ...step, note }) };
    for (const one of named) {
      const outcome = await tryNamed(noted, one, tried, (url) => tryOne(url, noted));
      if (typeof outcome === "object") return { found: outcome };
      if (outcome === undefined) continue;
      unusable ??= outcome;
      const url = "url" in one ? one.url.slice(0, 512) : undefined;
      logger?.warn(
        { route: look.route.id, resourceMetadata: url, finding: outcome },
        "resource_metadata of a challenge ignored: using the well-known URLs instead",
      );
    }
    for (const candidate of candidates) {
      const url = upstream.origin + candidate;
      if (tried.has(url)) continue;
      tried.add(url);
      const outcome = await tryOne(url);
      if (typeof outcome === "object") return { found: outcome, unusable };
    }
    if (mismatch) throw mismatch;
    return { unusable };
  }

  /** @returns the document, why it is not usable, or undefined if it has been tried already */
  async function tryNamed(
    { route, onStep }: Look,
    named: Named,
    tried: Set<string>,
    tryOne: (url: string) => Promise<ResourceMetadata | string>,
  ): Promise<ResourceMetadata | string | undefined> {
    const step = { name: "resource_metadata", ok: false } as const;
    if (!("url" in named)) {
      const finding = "is ignored: the challenge names something that is not a URL";
      onStep({ ...step, finding });
      return finding;
    }
    const url = atUpstream(route, named.url);
    if (url === undefined) {
      const finding = "is ignored: it is not on the upstream's origin";
      onStep({ ...step, url: named.url, finding });
      return finding;
    }
    if (tried.has(url)) return undefined;
    tried.add(url);
    return tryOne(url);
  }

  /** @returns the document, or why it is not usable. @throws UpstreamOAuthError `resource_mismatch` */
  async function oneResourceMetadata(
    { route, onStep }: Look,
    url: string,
  ): Promise<ResourceMetadata | string> {
    const step = { name: "resource_metadata", url } as const;
    let document: Awaited<ReturnType<MetadataCache["get"]>>;
    try {
      document = await cache.get(route.id, url, routeFetch.metadataFetchFor(route));
    } catch (error) {
      const finding = UpstreamOAuthError.from(error, "not fetched").message;
      onStep({ ...step, ok: false, finding });
      return finding;
    }
    const { status, json } = document;
    // Security-relevant: must be a string, not a list.
    const resource = typeof json?.resource === "string" ? textOf(json.resource) : undefined;
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
        : "describes a different resource than the route's upstream";
      onStep({ ...step, status, ok: false, finding: `${which} (${upstream}): ${resource.slice(0, 512)}` });
      throw new UpstreamOAuthError(
        "resource_mismatch",
        `the metadata at ${url} ${which} (${upstream}): the route's \`to\` must be the URL that the server uses for itself`,
        { detail: resource },
      );
    }
    const authorizationServers = (textsOf(json.authorization_servers) ?? [])
      .slice(0, maxServers)
      .filter((one) => one.length <= maxIssuerLength && URL.canParse(one));
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
      const about = { route: route.id, upstream, resource };
      logger?.info(about, "the upstream's resource metadata is for a URL above `to`, and so are its tokens");
    }
    return {
      resource,
      authorizationServers,
      scopes: readableScopes(textsOf(json.scopes_supported) ?? []),
      dpopRequired: flagOf(json.dpop_bound_access_tokens_required) === true,
    };
  }

  return { search };
}

function parentNote(resource: string): string {
  return `tokens are requested for ${resource}, which is above \`to\`; mcp.server.resource: exact rejects that`;
}
