/** A fixed public text that a route serves under `/.well-known/`. */
export interface WellKnownText {
  readonly contentType: string;
  readonly body: string;
}

/**
 * How the gateway authenticates to a route's upstream. `mode` is a closed set; `type` names the kind, which has its own file in
 * `config/upstream-auth/`.
 */
export type UpstreamAuth = StaticAuth | ConsentAuth | NonInteractiveAuth;

/** A credential in the routes file, or none. */
export interface StaticAuth {
  readonly mode: "static";
  readonly type: string;
  /** Set on every request, names in lower case; empty if the upstream requires no credential. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** A token per user, obtained with the user's consent; settings that are absent here are discovered. */
export interface ConsentAuth extends ClientSecrets {
  readonly mode: "consent";
  readonly type: string;
  readonly clientId?: string;
  /** If present, discovery is skipped. */
  readonly endpoint?: {
    readonly authUrl: string;
    readonly tokenUrl: string;
    /** RFC 7009 endpoint, if known. */
    readonly revocationUrl?: string;
  };
  /** Also applies to a discovered server; default: what the server supports. */
  readonly authMethod?: ClientAuthMethod;
  readonly scopes?: readonly string[];
  /** Only these and `scopes` are requested, even if the upstream requires others; default: no restriction. */
  readonly maxScopes?: readonly string[];
  readonly authorizationUrlParams: Readonly<Record<string, string>>;
  /** Fallback issuer when the upstream publishes no protected-resource metadata. */
  readonly authorizationServerUrl?: string;
}

/** A token obtained without user consent, with a grant type in `upstream-oauth/non-interactive/`. */
export interface NonInteractiveAuth extends ClientSecrets {
  readonly mode: "non_interactive";
  readonly type: string;
  /** Client at the upstream's authorization server. */
  readonly clientId: string;
  readonly authMethod?: ClientAuthMethod;
  readonly scopes?: readonly string[];
  /** The token endpoint; default: discovered, as for user consent. */
  readonly tokenUrl?: string;
  /** Fallback issuer for discovery. */
  readonly authorizationServerUrl?: string;
  /** Configured token endpoints of other parties, such as the sign-in provider. */
  readonly otherEndpoints: readonly string[];
  /** Whether there is one token per user, or one of the service that all callers share. */
  readonly tokenOf: "user" | "service";
  /** The caller's token that is exchanged: the external token, or a token of the sign-in; absent if none is. */
  readonly subjectToken?: "external_token" | "sign_in";
  /** Whether a service account needs a delegated connection of a user. */
  readonly needsPerson: boolean;
  /** The settings of the kind, built by its descriptor. */
  readonly settings: unknown;
}

/** How a client authenticates at a token endpoint (RFC 6749 section 2.3, RFC 7523). */
export type ClientAuthMethod = "client_secret_basic" | "client_secret_post" | "private_key_jwt" | "none";

/** Credentials of a client at a token endpoint. */
export interface ClientSecrets {
  readonly clientSecret?: string;
  /** Key for `private_key_jwt`, PEM (PKCS 8) or JWK; default: our own key. */
  readonly privateKey?: string;
  /** JWS algorithm of `privateKey`; default: the JWK's own, else ES256. */
  readonly signingAlg?: string;
}

/** The kind of MCP party behind a route, with its settings. */
export type RouteMcp =
  | {
      readonly kind: "server";
      /** Appended to the route's URL in listings. */
      readonly path: string;
      /** Largest request body that policy may inspect, bytes. */
      readonly maxRequestBytes: number;
      /**
       * How a call that lacks the user's consent is answered: `auto` asks inside the call where the client can show a URL, `elicitation`
       * also where that is unknown, `challenge` never.
       */
      readonly consent: "auto" | "challenge" | "elicitation";
      readonly auth: UpstreamAuth;
      readonly tools?: { readonly allow?: readonly string[]; readonly deny?: readonly string[] };
      /** The exact `issuer` of the authorization server's metadata and `iss` of its responses, if it differs from its URL (RFC 8414 section 3.3). */
      readonly expectedIssuer?: string;
      /** Resource metadata must name the upstream's URL, not a parent of it. */
      readonly exactResource?: true;
      /** In addition to the headers that every MCP server gets; names in lower case. */
      readonly requestHeaders: {
        /** Request headers to pass on. */
        readonly pass: readonly string[];
        readonly set: readonly (readonly [name: string, value: string])[];
        /** Whether the routes file sets `request_headers`. */
        readonly given: boolean;
      };
      /** The route has no upstream: the gateway answers its requests itself, from other MCP routes. */
      readonly aggregate?: Aggregate;
    }
  | {
      readonly kind: "client";
      /** Ids or `from` URLs of the MCP routes that its tokens are valid for; default: all that policy allows. */
      readonly routes?: readonly string[];
      /** The operator accepts that this application and the MCP routes of its host form one trust domain. */
      readonly sharesHost?: true;
    };

/** One endpoint in front of other MCP routes. */
export interface Aggregate {
  /** Ids or `from` URLs of its members, or all MCP routes that are not aggregated routes themselves. */
  readonly members: readonly string[] | "all";
  /** Prefix of a member's names; `{route}` stands for the member's id. */
  readonly prefix: string;
}

/** Claims that the upstream gets in headers and in the identity assertion. */
export interface ClaimHeaders {
  /** Header names in lower case. */
  readonly claims: readonly (readonly [header: string, claim: string])[];
  /** Names that a client's headers must not have, with hyphens for underscores: those of `claims`, and of other routes. */
  readonly names: ReadonlySet<string>;
  /** Equal for equal `claims`. */
  readonly key: string;
}

/** One `from` -> `to` entry of the routes file. Immutable. */
export interface Route {
  /** Configured, or derived from `from`, so that reordering the file does not change it. */
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly logoUrl?: string;
  /** Set by the operator for applications and people; shown in listings. */
  readonly labels?: Readonly<Record<string, string>>;
  /** `https://host[:port]`, lower case, default port left out. */
  readonly origin: string;
  /** The authority clients send in `Host`: `host[:port]`, lower case, default port left out. */
  readonly host: string;
  /** `/` or `/path` without a trailing slash. */
  readonly prefix: string;
  /** Our resource identifier (RFC 8707) and the `aud` of external tokens: `origin` for prefix `/`, else `origin + prefix`. */
  readonly resource: string;
  /** The upstream's URLs; they share one path. Empty for an aggregated route. */
  readonly to: readonly string[];
  /** First `to`, canonical: the upstream's resource identifier and the third part of a connection's key. `resource` for an aggregated route. */
  readonly upstream: string;
  /** Hash of `to` and of how the upstream is verified: Envoy sends the hash of its upstream with each check. */
  readonly upstreamHash: string;
  /** Replaces `prefix` in requests to the upstream; absent if `to` has no path. */
  readonly upstreamPath?: string;
  /** The query of `to`: sent with every request in addition to the client's own. */
  readonly upstreamQuery?: readonly (readonly [name: string, value: string])[];
  /** Path below `from` of the endpoint that a client requests; only on copies for a single request (`paths.ts`). */
  readonly askedPath?: string;
  readonly mcp: RouteMcp;
  /** Paths of secrets that an administrator has cleared: until they are set again, no request reaches the upstream. */
  readonly missingSecrets?: readonly string[];
  /** One of them is the secret or the key of the route's client at its authorization server. */
  readonly clientSecretMissing?: true;
  readonly policy?: PolicySource;
  /** Whether the upstream gets the identity assertion headers, and those of `claimHeaders`. */
  readonly passIdentityHeaders: boolean;
  /** Further claims for the upstream; absent if none are configured. */
  readonly claimHeaders?: ClaimHeaders;
  /** If false, requests get 404, and connect and callback are blocked. */
  readonly enabled: boolean;
  /** Fixed public texts of the route's host, by path. */
  readonly wellKnown?: ReadonlyMap<string, WellKnownText>;
  /** Overrides how an https upstream is verified; default: host of `to` and `envoy.upstream_ca`. */
  readonly upstreamTls?: { readonly serverName?: string; readonly caFile?: string };
  /** The upstream gets the route's host in `Host` instead of its own. */
  readonly preserveHostHeader?: boolean;
  /** Per user. */
  readonly rateLimit?: { readonly requestsPerMinute?: number; readonly toolCallsPerMinute?: number };
}

/** What discovery found when the route was last created, enabled or changed. Shown to administrators only, and never used. */
export interface RouteDiscovery {
  readonly issuer: string;
  readonly authorization_endpoint?: string;
  readonly token_endpoint?: string;
  /** Requested from users. */
  readonly scopes: readonly string[];
  readonly client_id: string;
  readonly registered_how: "configured" | "document" | "registered";
  /** RFC 3339. */
  readonly at: string;
}

/** Pomerium's policy language, parsed and validated by `config/`, compiled by `policy/`. */
export type PolicySource = readonly PolicyRule[];
export interface PolicyRule {
  readonly action: "allow" | "deny";
  /** Its path in the routes file, for audit events: `routes[2].policy[0]`. */
  readonly name: string;
  readonly when: PolicyNode;
}
/**
 * Logical operators over criteria. Pomerium's operators differ from Boolean algebra: its `not` is true if no node matches
 * (¬A ∧ ¬B), its `nor` if at least one does not (¬A ∨ ¬B). The parser translates both to `and` or `or` over `not`s of a single node,
 * which mean the same in both; it never emits `nor`.
 */
export type PolicyNode =
  | { readonly op: "and" | "or" | "not" | "nor"; readonly nodes: readonly PolicyNode[] }
  | {
      readonly op: "criterion";
      /** `accept`, `email`, ... or `claim`. */
      readonly criterion: string;
      /** `claim/NAME`: NAME, slashes descend. */
      readonly claim?: string;
      /** `time_of_day` only: the IANA time zone its times are in. */
      readonly timezone?: string;
      readonly matcher: PolicyMatcher;
    };
/** `always` is for criteria without a value (`accept: true`). `date` and `time_of_day` use before and after. */
export type PolicyMatcher =
  | { readonly kind: "always" }
  | {
      readonly kind: "is" | "starts_with" | "ends_with" | "contains" | "has" | "before" | "after";
      readonly value: string | number | boolean;
    }
  | { readonly kind: "in" | "not_in"; readonly values: readonly (string | number | boolean)[] }
  | { readonly kind: "all"; readonly matchers: readonly PolicyMatcher[] };

/** What Envoy names as the route of a request that matches none of its routes. No id, because ids have no spaces. */
export const unmatched = "no route";

/** How the gateway authenticates to the route's upstream; undefined for a client route. */
export function upstreamAuth({ mcp }: Pick<Route, "mcp">): UpstreamAuth | undefined {
  return mcp.kind === "server" ? mcp.auth : undefined;
}

/** The same if it requires user consent, else undefined. */
export function consentAuth(route: Pick<Route, "mcp">): ConsentAuth | undefined {
  const auth = upstreamAuth(route);
  return auth?.mode === "consent" ? auth : undefined;
}

/** The same if tokens are obtained without consent, else undefined. */
export function nonInteractiveAuth(route: Pick<Route, "mcp">): NonInteractiveAuth | undefined {
  const auth = upstreamAuth(route);
  return auth?.mode === "non_interactive" ? auth : undefined;
}

/** What an aggregated route is made of; undefined for other routes. */
export function aggregateOf({ mcp }: Pick<Route, "mcp">): Aggregate | undefined {
  return mcp.kind === "server" ? mcp.aggregate : undefined;
}

/** Whether calls on this route require a user's connection or sign-in. */
export function needsPersonsConnection(route: Route): boolean {
  return consentAuth(route) !== undefined || nonInteractiveAuth(route)?.needsPerson === true;
}

/** Whether calls on this route may be answered with a request for consent (MCP URL mode elicitation) instead of a challenge. */
export function asksInCall(route: Route): boolean {
  return consentAuth(route) !== undefined && route.mcp.kind === "server" && route.mcp.consent !== "challenge";
}

/** Longest request body that the gateway reads on this route, bytes. */
export function longestRequest({ mcp }: Pick<Route, "mcp">): number {
  return mcp.kind === "server" ? mcp.maxRequestBytes : 0;
}

/** How many bytes of the request body policy must inspect on this route. Envoy buffers exactly that many. */
export function inspectedBodyBytes(route: Route): number {
  if (route.mcp.kind !== "server") return 0;
  const needed =
    route.mcp.tools !== undefined ||
    route.rateLimit?.toolCallsPerMinute !== undefined ||
    (route.policy ?? []).some((rule) => namesTools(rule.when));
  return needed ? longestRequest(route) : 0;
}

function namesTools(node: PolicyNode): boolean {
  return node.op === "criterion" ? node.criterion === "mcp_tool" : node.nodes.some(namesTools);
}
