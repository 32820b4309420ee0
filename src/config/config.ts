import type { EgressProxies } from "../egress/proxies.ts";
import type { ClaimHeaders, PolicySource, Route } from "../model/route.ts";
import type { AdminAccess } from "./admin-access.ts";
import type { ReservedRoute } from "./reserved-routes.ts";

/** Settings of the file that apply to routes without their own. */
export type RouteDefaults = Pick<Config, "passIdentityHeaders" | "claimHeaders" | "policy">;

/** Trust in e-mail addresses of a source without `email_verified`. */
interface EmailTrust {
  /** Undefined: not configured. */
  readonly trustEmail?: boolean;
  /** Lower case; addresses of other domains are never trusted. */
  readonly emailDomains?: readonly string[];
}

/** An OpenID provider that users sign in with. */
export interface SignInProvider extends EmailTrust {
  /** Namespace of its users: a user id is `id/sub`, so that subjects of different providers do not collide. */
  readonly id: string;
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly scopes: readonly string[];
  /** Added to the authorization request, replacing parameters of the same name; an empty value removes a parameter. */
  readonly authorizationUrlParams: Readonly<Record<string, string>>;
  /** Names of the claims with the user's subject, e-mail, display name and groups. */
  readonly claims: {
    readonly user: string;
    readonly email: string;
    readonly name: string;
    readonly groups: string;
  };
}

/** An issuer whose tokens are accepted as external tokens. */
export interface TrustedIssuer extends EmailTrust {
  readonly id: string;
  readonly issuer: string;
  readonly jwksUri?: string;
  readonly audience: readonly string[];
  /**
   * Ids or resources of the routes that its tokens are valid for, for all audiences that are not http(s) URLs, or per audience. Absent:
   * all routes for such audiences. A URL is valid for the route with this resource, unless it is listed as an audience.
   */
  readonly routes?: readonly string[] | Readonly<Record<string, readonly string[]>>;
  readonly algorithms: readonly string[];
  readonly claims: {
    readonly user: string;
    readonly email: string;
    readonly name: string;
    readonly groups: string;
  };
  readonly requiredClaims: Readonly<Record<string, unknown>>;
}

/** A preconfigured MCP client. */
export interface PreRegisteredClient {
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly clientName: string;
  readonly redirectUris: readonly string[];
}

/** Source of a key-encryption key (32 bytes, base64url), or its key service; the first is the newest, which encrypts. */
export type KeySource =
  | { readonly kid: string; readonly env: string }
  | { readonly kid: string; readonly file: string }
  | {
      readonly kid: string;
      readonly vault: {
        readonly address: string;
        readonly key: string;
        readonly mount: string;
        readonly namespace?: string;
        readonly token: { readonly env: string } | { readonly file: string };
      };
    }
  | {
      readonly kid: string;
      readonly awsKms: { readonly key: string; readonly region?: string; readonly endpoint?: string };
    }
  | { readonly kid: string; readonly googleKms: { readonly key: string; readonly endpoint?: string } };

/** The validated routes file with all defaults. Durations in seconds, sizes in bytes. */
export interface Config {
  /** Path of the file; relative paths in it are resolved against its folder. */
  readonly file: string;
  /** Issuer of the authorization server: an https origin without path; sign-in is on its host. */
  readonly issuer: string;
  readonly listen: {
    /** `host:port` or `unix:/path`. */
    readonly grpc: string;
    readonly http: string;
    readonly admin: string;
    /** mTLS on the gRPC port: clients need a certificate of `clientCa` (PEM files); absent: plain text. */
    readonly grpcTls?: {
      readonly certificate: string;
      readonly key: string;
      readonly clientCa: string;
      /** `DNS:name` or `URI:spiffe://...` of the certificate, one of which must match; empty: any certificate of that CA. */
      readonly clientNames: readonly string[];
    };
    /** Secrets that authenticate Envoy on TCP listeners. The generated Envoy configuration sends the first; all are accepted. */
    readonly envoySecrets: readonly string[];
    /** `none`: any caller of the gRPC address is treated as Envoy; loopback addresses only. */
    readonly grpcAuthentication: "required" | "none";
    /** Permissions of `unix:` sockets. */
    readonly socketMode: number;
    /** TLS on the HTTP port: PEM files; absent: plain text. */
    readonly httpTls?: { readonly certificate: string; readonly key: string };
    /** TLS on the private port: PEM files; absent: plain text. */
    readonly adminTls?: { readonly certificate: string; readonly key: string };
    /** Where Envoys fetch listeners, routes and clusters, over TLS (PEM files); one of `secrets` authenticates them. */
    readonly xds?: {
      readonly address: string;
      readonly certificate: string;
      readonly key: string;
      readonly secrets: readonly string[];
    };
  };
  /** Processes that serve: each with addresses of its own after those of `listen` (`workers.ts`). */
  readonly workers: number | "auto";
  readonly database: {
    /** Absent: embedded database in `dir`. Overridden by `DATABASE_URL`. */
    readonly url?: string;
    /** For LISTEN if `url` is a transaction-mode pooler. Overridden by `DATABASE_LISTEN_URL`. */
    readonly listenUrl?: string;
    /** TLS mode; absent: `sslmode` of the URLs. */
    readonly tls?: "verify-full" | "disable";
    /** PEM file of the CAs of the server's certificate. */
    readonly tlsCa?: string;
    readonly dir: string;
  };
  readonly encryption: { readonly keys: readonly KeySource[] };
  readonly paths: { /** `/.pomerium` */ readonly prefix: string };
  readonly signIn: {
    readonly providers: readonly SignInProvider[];
    readonly sessionTtl: number;
    readonly recheck: number;
    readonly recheckGrace: number;
  };
  /** What a user's sign-out ends: the sessions of that browser, or all of their sessions, and the grants of their MCP clients. */
  readonly signOut: { readonly ends: "browser" | "everything" };
  readonly externalTokens: {
    readonly ttl: number;
    readonly refreshIdleTtl: number;
    readonly refreshAbsoluteTtl: number;
    /** Seconds in which a used refresh token may be repeated, for the same successor; 0: never. */
    readonly refreshTokenGrace: number;
    readonly leeway: number;
    readonly maxBytes: number;
    readonly trustedIssuers: readonly TrustedIssuer[];
  };
  readonly authorizationServer: {
    readonly dynamicClientRegistration: boolean;
    /** Whether Client ID Metadata Documents are supported. */
    readonly clientIdMetadataDocument: boolean;
    /** Seconds after which a user must consent to a client again. */
    readonly consentTtl: number;
    /** Host patterns (`*.example.com`) whose Client ID Metadata Documents are accepted; empty: any. */
    readonly allowedClientIdDomains: readonly string[];
    readonly clients: readonly PreRegisteredClient[];
  };
  readonly upstreamOAuth: {
    /** Private hosts, `host:port` or CIDR blocks that untrusted URLs may point to; http is allowed for these. */
    readonly allowedPrivateHosts: readonly string[];
    /** Hosts that may serve authorization-server metadata; empty: any public host. */
    readonly allowedAsMetadataDomains: readonly string[];
    readonly clientIdMetadataDocument: "auto" | "always" | "never";
    /** URL of the gateway's Client ID Metadata Document, if route hosts are not public; it is then the client id. */
    readonly clientIdMetadataUrl?: string;
    readonly clientName: string;
    /** Per outbound call, ms; largest response, bytes. */
    readonly timeoutMs: number;
    readonly maxResponseBytes: number;
    readonly pendingTtl: number;
    readonly refreshAhead: {
      /** Only connections that were used in these last seconds are refreshed in the background; 0: none. */
      readonly usedWithin: number;
    };
    /** For all outbound calls of the gateway. */
    readonly proxies: EgressProxies;
  };
  readonly check: {
    /** Deadline of a check, ms. */ readonly deadlineMs: number;
    readonly maxHeaderBytes: number;
  };
  /** Configurable limits per party; docs/threat-model.md lists all limits. */
  readonly limits: {
    /** Per hour, address (IPv6: /64) and replica. */
    readonly registrationsPerAddress: number;
    readonly authorizationsPerAddress: number;
    /** Pending authorizations; the oldest is dropped. */
    readonly pendingAuthorizationsPerUser: number;
    /** Documents and key sets fetched for MCP clients without a grant, per hour, address and replica. */
    readonly clientFetchesPerAddress: number;
    /** The same per host that serves them. */
    readonly clientFetchesPerHost: number;
    /** Concurrent fetches of documents and key sets of MCP clients. */
    readonly clientFetchesAtOnce: number;
    /** Log lines per message and minute that do not name a known user; the others are counted. */
    readonly logLines: number;
    /** Request body of the gateway's own endpoints. */
    readonly bodyBytes: number;
    /** Per in-memory cache with one entry per user or connection. */
    readonly cacheEntries: number;
    /** Metadata documents of upstreams and their authorization servers. */
    readonly metadataCacheEntries: number;
    readonly tokenCacheBytes: number;
    /** A list of tools that policy filters, or an event of a stream that may contain lists. */
    readonly toolListBytes: number;
  };
  /** Without a token the admin API is disabled, without a policy the admin page. */
  readonly adminApi: AdminAccess;
  readonly audit: {
    /** Older events are removed, seconds. */
    readonly retention: number;
    /** Where events are sent; absent: nowhere. */
    readonly http?: {
      readonly url: string;
      readonly headers: Readonly<Record<string, string>>;
      readonly format: "json" | "cloudevents";
    };
  };
  readonly log: {
    readonly level: "trace" | "debug" | "info" | "warn" | "error";
    /** Which decisions about requests have a line at `info`; the others have one at `debug`. */
    readonly decisions: "denied" | "all";
  };
  /** Used by `envoy-config`; the sidecar uses `upstreamCa`, `xffNumTrustedHops` and `responsePath`, too. */
  readonly envoy: {
    readonly listen: string;
    readonly admin?: string;
    readonly tls: {
      readonly certificate: string;
      readonly key: string;
      /** Addresses and CIDR blocks of the TLS terminator in front of Envoy; if present, Envoy serves plain HTTP, to these only. */
      readonly terminatedBy?: readonly string[];
    };
    /** Listen address of routes with an `http:` origin, on their ports; absent: the loopback address of `from`. */
    readonly httpAddress?: string;
    /** PEM bundle that verifies upstream certificates. */
    readonly upstreamCa: string;
    /** Trusted proxies in front of Envoy that append to `X-Forwarded-For`; default 0: the peer is the client. */
    readonly xffNumTrustedHops: number;
    /** Whether the gateway in front sends upstreams' responses to ext_proc. If not, early refreshes of clients verify upstream tokens. */
    readonly responsePath: boolean;
    /** How long a client may take to send a request, or to read the end of a response, s; the response itself is not limited. */
    readonly requestTimeout: number;
    /** How long a connection may be idle, also before its first request, s. */
    readonly idleTimeout: number;
    /** Concurrent client connections. */
    readonly maxConnections: number;
    /** Maximum of Envoy's heap; Envoy sheds load before. */
    readonly maxHeapBytes: number;
    /** OpenTelemetry collector (OTLP over gRPC), and the share of requests without a trace that start one. */
    readonly tracing?: { readonly collector: string; readonly samplePercent: number };
    /** Addresses of the sidecar for Envoy; default: `listen`. */
    readonly sidecar: {
      readonly grpc: readonly string[];
      readonly http: readonly string[];
      /** PEM files at Envoy: its client certificate, and the CA and name of the sidecar's. */
      readonly grpcTls?: {
        readonly ca: string;
        readonly certificate: string;
        readonly key: string;
        readonly serverName: string;
      };
      /** CA (PEM file at Envoy) and name of the sidecars' certificates for `listen.httpTls`. */
      readonly httpTls?: { readonly ca: string; readonly serverName: string };
      /** For Envoys that fetch their configuration from `listen.xds`; the files are at Envoy. */
      readonly xds?: {
        /** The first one that is healthy is used. */
        readonly addresses: readonly string[];
        /** CA and name of the sidecars' certificates. */
        readonly ca: string;
        readonly serverName: string;
        /** File with the secret, as `envoy-config --format xds-credential` prints it. */
        readonly credential: string;
      };
    };
  };
  /** How aggregated routes reach their members: through Envoy. */
  readonly aggregation: {
    /** Loopback address of the generated Envoy's listener for it; used unless `through` is set. */
    readonly listen: string;
    /** URL of Envoy as seen from the sidecar; an https certificate is checked for the member's host. */
    readonly through?: string;
    /** PEM file with the authorities of that certificate. */
    readonly ca: string;
  };
  /** Default of routes. */
  readonly passIdentityHeaders: boolean;
  /** Default of routes. */
  readonly claimHeaders?: ClaimHeaders;
  /** Which groups of a user the identity assertion contains. */
  readonly identityAssertion: {
    /** Names, or prefixes followed by `*`; absent: any. */
    readonly groups?: readonly string[];
    readonly maxGroups: number;
  };
  /** Default of routes without a policy. */
  readonly policy?: PolicySource;
  readonly routes: readonly Route[];
  /** Stored routes that cannot be used; none in the configuration of the file alone. */
  readonly reserved: readonly ReservedRoute[];
}
