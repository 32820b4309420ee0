/** A fixed public text that a route serves under `/.well-known/`. */
export interface WellKnownText {
  readonly contentType: string;
  readonly body: string;
}

/** How a route's upstream wants to be authenticated to. A closed union: `type` names the kind. */
export type UpstreamAuth =
  | OAuthUpstreamAuth
  | { readonly type: "none" }
  | { readonly type: "api_key"; readonly header: string; readonly value: string }
  | { readonly type: "headers"; readonly headers: Readonly<Record<string, string>> }
  | TokenExchangeAuth
  | ClientCredentialsAuth
  | IdJagAuth;

/** How a client authenticates at a token endpoint (RFC 6749 section 2.3, RFC 7523). */
export type ClientAuthMethod = "client_secret_basic" | "client_secret_post" | "private_key_jwt" | "none";

/** What a client proves itself with at a token endpoint. */
export interface ClientSecrets {
  readonly clientSecret?: string;
  /** PEM (PKCS 8) or JWK text of the key for `private_key_jwt`; without one, our own signs. */
  readonly privateKey?: string;
  /** JWS algorithm of `privateKey`; default: the JWK's own, else ES256. */
  readonly signingAlg?: string;
}

/** A user's own token, obtained with the user's consent; what is not given here is discovered. */
export interface OAuthUpstreamAuth extends ClientSecrets {
  readonly type: "oauth";
  readonly clientId?: string;
  /** Present: no discovery at all. */
  readonly endpoint?: {
    readonly authUrl: string;
    readonly tokenUrl: string;
    /** RFC 7009 endpoint, where the operator knows one. */
    readonly revocationUrl?: string;
  };
  /** How the client proves itself, also at a server that is discovered; absent: as the server asks for. */
  readonly authMethod?: ClientAuthMethod;
  readonly scopes?: readonly string[];
  /** No scope but these and `scopes` is asked for, whatever the upstream demands; absent: what the person agrees to. */
  readonly maxScopes?: readonly string[];
  readonly authorizationUrlParams: Readonly<Record<string, string>>;
  /** Fallback issuer when the upstream publishes no protected-resource metadata. */
  readonly authorizationServerUrl?: string;
}

/** RFC 8693: the caller's token for an upstream token, without consent. */
export interface TokenExchangeAuth extends ClientSecrets {
  readonly type: "token_exchange";
  readonly tokenUrl: string;
  readonly clientId: string;
  readonly authMethod?: ClientAuthMethod;
  /** Which token is exchanged: the caller's TE, or the person's sign-in token. */
  readonly subjectToken: "external_token" | "sign_in_id_token" | "sign_in_access_token";
  readonly audience?: string;
  readonly scopes?: readonly string[];
}

/** RFC 6749 section 4.4 (or RFC 7523 section 2.2 with `private_key_jwt` or a workload identity): one token for the service. */
export interface ClientCredentialsAuth extends ClientSecrets {
  readonly type: "client_credentials";
  readonly clientId: string;
  readonly authMethod?: ClientAuthMethod;
  /** Absent: discovered like a user's authorization server. */
  readonly tokenUrl?: string;
  readonly authorizationServerUrl?: string;
  readonly scopes?: readonly string[];
  /** Workload identity (RFC 7523 section 2.1): a file that holds the platform's JWT, sent as `assertion`. */
  readonly workloadIdentityFile?: string;
}

/** Enterprise-managed authorization: an identity assertion grant of the company's provider, then RFC 7523 at the upstream's. */
export interface IdJagAuth extends ClientSecrets {
  readonly type: "id_jag";
  /** Client at the company's provider that may exchange the ID token for the assertion. */
  readonly idpTokenUrl?: string;
  readonly idpClientId: string;
  readonly idpClientSecret?: string;
  /** As in `UpstreamOAuth`. */
  readonly authorizationServerUrl?: string;
  /** Client at the upstream's authorization server. */
  readonly clientId: string;
  readonly authMethod?: ClientAuthMethod;
  readonly scopes?: readonly string[];
}

/** The part of a route that says what kind of MCP party stands behind it. */
export type RouteMcp =
  | {
      readonly kind: "server";
      /** Appended to the route's URL in listings. */
      readonly path: string;
      /** Largest request body policy may inspect, bytes. */
      readonly maxRequestBytes: number;
      readonly auth: UpstreamAuth;
      readonly tools?: { readonly allow?: readonly string[]; readonly deny?: readonly string[] };
      /** `issuer` of the authorization server's metadata and `iss` of its answers, exactly, where it is not the one named (RFC 8414 section 3.3). */
      readonly expectedIssuer?: string;
      /** Resource metadata must name the upstream's own URL, not one above it. */
      readonly exactResource?: true;
      /** Beyond what passes to every MCP server; names in lower case. */
      readonly requestHeaders: {
        /** Clients' headers that pass. */
        readonly pass: readonly string[];
        readonly set: readonly (readonly [name: string, value: string])[];
        /** The operator has said something about it. */
        readonly given: boolean;
      };
    }
  | {
      readonly kind: "client";
      /** Ids or `from` URLs of the MCP routes its tokens are good for; absent: all that policy allows. */
      readonly routes?: readonly string[];
      /** The operator accepts that its scripts and those behind the MCP routes of its host are one trust domain. */
      readonly sharesHost?: true;
    };

/** One `from` -> `to` entry of the routes file. Built in one place, `load-config.ts`; never changed afterwards. */
export interface Route {
  /** Stable when the file is reordered: given, else derived from `from`. */
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly logoUrl?: string;
  /** `https://host[:port]`, lower case, default port left out. */
  readonly origin: string;
  /** The authority clients send in `Host`: `host[:port]`, lower case, default port left out. */
  readonly host: string;
  /** `/` or `/path` without a trailing slash. */
  readonly prefix: string;
  /** Our resource identifier (RFC 8707): `origin` for prefix `/`, else `origin + prefix`. It is a TE's `aud`. */
  readonly resource: string;
  /** The upstream's URLs; they share one path. */
  readonly to: readonly string[];
  /** First `to`, canonical: the upstream's resource identifier and the third part of a connection's key. */
  readonly upstream: string;
  /** `upstreamHash` of `to` and of how the upstream is recognised: Envoy says on each check which one it routes to. */
  readonly upstreamHash: string;
  /** Replaces `prefix` on the way to the upstream; absent when `to` has no path. */
  readonly upstreamPath?: string;
  /** The query of `to`: it goes along with every request, whatever the client's own says. */
  readonly upstreamQuery?: readonly (readonly [name: string, value: string])[];
  /** Path below `from` of the endpoint that a client means; on copies only (`endpoint.ts`), which stand for one client's flow. */
  readonly askedPath?: string;
  readonly mcp: RouteMcp;
  readonly policy?: PolicySource;
  /** Whether the identity assertion headers go to the upstream. */
  readonly passIdentityHeaders: boolean;
  /** False answers 404 and blocks connect and callback. */
  readonly enabled: boolean;
  /** Fixed public texts of the route's host, by path. */
  readonly wellKnown?: ReadonlyMap<string, WellKnownText>;
  /** How the connection to an https upstream is verified, where the defaults (host of `to`, `envoy.upstream_ca`) do not fit. */
  readonly upstreamTls?: { readonly serverName?: string; readonly caFile?: string };
  /** The upstream sees the route's host instead of its own in `Host`. */
  readonly preserveHostHeader?: boolean;
  /** Per user. */
  readonly rateLimit?: { readonly requestsPerMinute?: number; readonly toolCallsPerMinute?: number };
}

/** Pomerium's policy language as parsed and checked by `config/`; `policy/` compiles it. */
export type PolicySource = readonly PolicyRule[];
export interface PolicyRule {
  readonly action: "allow" | "deny";
  /** Where it stands in the file, for audit events: `routes[2].policy[0]`. */
  readonly name: string;
  readonly when: PolicyNode;
}
/**
 * Logical operators over criteria. Pomerium's words differ from Boolean algebra's: its `not` is true when none of the nodes
 * match (¬A ∧ ¬B), its `nor` when at least one does not (¬A ∨ ¬B). The parser therefore writes both as `and` or `or` over
 * `not`s of a single node each, which reads the same in either tradition; `nor` itself is never emitted.
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
/** `always` stands for criteria without a value (`accept: true`). `date` and `time_of_day` use before and after. */
export type PolicyMatcher =
  | { readonly kind: "always" }
  | {
      readonly kind: "is" | "starts_with" | "ends_with" | "contains" | "has" | "before" | "after";
      readonly value: string | number | boolean;
    }
  | { readonly kind: "in" | "not_in"; readonly values: readonly (string | number | boolean)[] }
  | { readonly kind: "all"; readonly matchers: readonly PolicyMatcher[] };

/** Whether calls on this route go upstream with a connection that a person has made or signed in for. */
export function needsPersonsConnection({ mcp }: Route): boolean {
  return mcp.kind === "server" && (mcp.auth.type === "oauth" || mcp.auth.type === "id_jag");
}

/** How many bytes of a request's body policy must see on this route; 0: none. Envoy buffers exactly these. */
export function inspectedBodyBytes(route: Route): number {
  if (route.mcp.kind !== "server") return 0;
  const needed =
    route.mcp.tools !== undefined ||
    route.rateLimit?.toolCallsPerMinute !== undefined ||
    (route.policy ?? []).some((rule) => namesTools(rule.when));
  return needed ? route.mcp.maxRequestBytes : 0;
}

function namesTools(node: PolicyNode): boolean {
  return node.op === "criterion" ? node.criterion === "mcp_tool" : node.nodes.some(namesTools);
}
