import type { AuthorizationServer } from "oauth4webapi";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { flagOf, textOf, textsOf } from "./json.ts";
import type { MetadataCache } from "./metadata-cache.ts";
import type { RouteFetch } from "./route-fetch.ts";
import type { DiscoveryStep } from "./upstream-oauth.ts";

type Json = Readonly<Record<string, unknown>>;

/** Members that are URLs, in addition to those whose names end in `_endpoint`. */
const links = new Set(["jwks_uri", "service_documentation", "op_policy_uri", "op_tos_uri"]);
/** Required members: an invalid URL is reported, not ignored. */
const required = new Set(["authorization_endpoint", "token_endpoint"]);
/** Read strictly: anything but a list means that PKCE is not supported. */
const strictList = "code_challenge_methods_supported";

/**
 * Reads authorization server metadata (RFC 8414 section 2) leniently: for optional, descriptive members, null, "" and a value of another
 * type count as absent, and a list may be text. `issuer` and `code_challenge_methods_supported` are read verbatim.
 *
 * @returns undefined without an `issuer` in ASCII
 */
export function readServerMetadata(json: Json): AuthorizationServer | undefined {
  const { issuer } = json;
  // RFC 8414 section 2: a URL. Of other characters, not all can be stored.
  if (typeof issuer !== "string" || !/^[!-~]+$/.test(issuer)) return undefined;
  const read: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(json)) {
    const kept = readMember(name, value);
    if (kept !== undefined) read[name] = kept;
  }
  return { ...read, issuer };
}

function readMember(name: string, value: unknown): unknown {
  if (name === strictList) return Array.isArray(value) ? value.filter(isString) : undefined;
  if (name.endsWith("_supported")) return readSupported(value);
  if (required.has(name)) return addressOf(value);
  if (name.endsWith("_endpoint") || links.has(name)) return readUrl(value);
  return value ?? undefined;
}

/** A flag or a list; an empty list counts as absent. */
function readSupported(value: unknown): boolean | string[] | undefined {
  return flagOf(value) ?? textsOf(value);
}

/** Security-relevant URLs: must be a string, not a list. */
function addressOf(value: unknown): string | undefined {
  return typeof value === "string" ? textOf(value) : undefined;
}

function readUrl(value: unknown): string | undefined {
  const text = addressOf(value);
  return text !== undefined && URL.canParse(text) ? text : undefined;
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

/** The route that a lookup is for, and a callback that reports its steps. */
export interface Look {
  readonly route: Route;
  readonly onStep: (step: DiscoveryStep) => void;
}

/** Finds and reads the metadata of authorization servers. */
export function createServerMetadata({
  routes,
  routeFetch,
  cache,
}: {
  routes: CurrentRoutes;
  routeFetch: RouteFetch;
  cache: MetadataCache;
}): {
  find(look: Look, issuer: string, expected?: string): Promise<AuthorizationServer | undefined>;
  checked(route: Route, as: AuthorizationServer): AuthorizationServer;
} {
  /**
   * Tries RFC 8414 section 3.1, then OpenID Connect Discovery, in the three forms that servers use; finally, for an issuer with a path, the
   * root of its host.
   *
   * @param expected the operator's `expected_issuer`, accepted in addition to the requested issuer
   * @throws UpstreamOAuthError
   */
  async function find(
    { route, onStep }: Look,
    issuer: string,
    expected?: string,
  ): Promise<AuthorizationServer | undefined> {
    const base = new URL(issuer);
    const path = base.pathname.replace(/\/$/, "");
    const kinds = ["oauth-authorization-server", "openid-configuration"].map(
      (kind) => `/.well-known/${kind}`,
    );
    const candidates = [
      ...kinds.map((kind) => `${kind}${path}`),
      ...(path ? [`${path}/.well-known/openid-configuration`, ...kinds] : []),
    ];
    checkDomain(base);
    let failure: UpstreamOAuthError | undefined;
    for (const candidate of candidates) {
      const url = base.origin + candidate;
      const step = { name: "server_metadata", url } as const;
      try {
        const { status, json } = await cache.get(route.id, url, routeFetch.metadataFetchFor(route));
        const as = json && readServerMetadata(json);
        if (!as) {
          const finding = json ? "names no issuer" : notThere(status, "authorization server metadata");
          onStep({ ...step, status, ok: false, finding });
          if (status >= 500) {
            failure ??= new UpstreamOAuthError("server_error", `${base.host} failed (${status})`, {
              status,
              server: base.host,
            });
          }
          continue;
        }
        if (as.issuer !== expected && !sameIssuer(as.issuer, base)) {
          const names = `names the issuer ${inWords(as.issuer)}, not ${expected ?? issuer}`;
          onStep({ ...step, status, ok: false, finding: names });
          // The root of a shared host may belong to another owner.
          if (path && kinds.includes(candidate)) failure ??= mismatched(url, names, as.issuer, expected);
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

  /** `allowed_as_metadata_domains`. */
  function checkDomain(issuer: URL): void {
    const allowed = routes().config.upstreamOAuth.allowedAsMetadataDomains;
    if (allowed.length === 0) return;
    const host = issuer.hostname;
    const fits = allowed.some((one) => (one.startsWith("*.") ? host.endsWith(one.slice(1)) : host === one));
    if (fits) return;
    throw new UpstreamOAuthError(
      "metadata_domain_not_allowed",
      `the authorization server ${issuer.host} is not among allowed_as_metadata_domains`,
    );
  }

  /** Endpoints must be usable before a user is redirected. */
  function checked(route: Route, as: AuthorizationServer): AuthorizationServer {
    const names = [
      "authorization_endpoint",
      "token_endpoint",
      "registration_endpoint",
      "revocation_endpoint",
    ] as const;
    for (const name of names) {
      const value = as[name];
      if (value !== undefined) routeFetch.checkEndpoint(route, name, String(value));
    }
    return as;
  }

  return { find, checked };
}

/** The finding for a response that is not the expected document. */
export function notThere(status: number, what: string): string {
  return status >= 200 && status < 300 ? `is not ${what}` : "does not exist";
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
    `the metadata at ${url} ${names}: if the server's owner confirms that issuer, ${key} on the route to exactly that value`,
    { detail: theirs },
  );
}

/** Another server's text is shown only if it is a plain URL. */
function inWords(issuer: string): string {
  return issuer.length <= 200 && /^https?:\/\/[\w.~:/{}[\]%-]+$/.test(issuer) ? issuer : "(not a URL)";
}

/** Whether issuers are equal, except for the slash that URLs add to a bare origin. */
export function sameIssuer(text: string, asked: URL): boolean {
  return URL.canParse(text) && new URL(text).href === asked.href;
}

/**
 * The owner that credentials at a server are bound to: its issuer. If only the operator's `expected_issuer` vouches for the issuer, also
 * the token endpoint's origin, since anyone can publish metadata with that issuer.
 */
export function credentialOwner({ as, named }: Pick<UpstreamServer, "as" | "named">): string {
  return named === undefined ? as.issuer : `${as.issuer} ${new URL(as.token_endpoint ?? named).origin}`;
}

/** The authorization server behind one route's upstream, as the routes file or discovery describes it. */
export interface UpstreamServer {
  /** Issuer and endpoints. Where the routes file gives endpoints only, `issuer` is the token endpoint's origin. */
  readonly as: AuthorizationServer;
  /** If `as.issuer` is the operator's `expected_issuer`: the issuer that the upstream or the operator names, whose metadata was read. */
  readonly named?: string;
  /** False for endpoints from the routes file: there is no issuer to compare `iss` with. */
  readonly issuerKnown: boolean;
  /** False for endpoints from the routes file and for the default endpoints of the 2025-03-26 revision. */
  readonly hasMetadata: boolean;
  /** RFC 8707 resource to request. */
  readonly resource?: string;
  /** From the upstream's first challenge, else from its metadata. */
  readonly scopes: readonly string[];
  /** RFC 9728 `dpop_bound_access_tokens_required`. */
  readonly dpopRequired: boolean;
}
