import type { EgressProxies } from "../egress/proxies.ts";
import type { PolicySource, Route } from "../model/route.ts";

/** How far a source's word on e-mail addresses goes where it does not say `email_verified`. */
interface EmailTrust {
  /** Undefined: the operator has not said. */
  readonly trustEmail?: boolean;
  /** Lower case; no address of another domain is taken at all. */
  readonly emailDomains?: readonly string[];
}

/** One OpenID provider people sign in at. */
export interface SignInProvider extends EmailTrust {
  /** Namespace of its people: a user id is `id/sub`, so that two providers' subjects never collide. */
  readonly id: string;
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly scopes: readonly string[];
  /** Added to the authorization request, or in place of what is in it; an empty value leaves a parameter out. */
  readonly authorizationUrlParams: Readonly<Record<string, string>>;
  /** Claim names that hold the user's subject, e-mail, display name and groups. */
  readonly claims: {
    readonly user: string;
    readonly email: string;
    readonly name: string;
    readonly groups: string;
  };
}

/** A foreign issuer whose tokens we accept as TEs. */
export interface TrustedIssuer extends EmailTrust {
  readonly id: string;
  readonly issuer: string;
  readonly jwksUri?: string;
  readonly audience: readonly string[];
  /**
   * Ids or resources of the routes that its tokens open: by any audience that is not an http(s) URL, or by audience. Absent: by
   * such an audience all. A URL opens the route whose resource it is, unless it is listed by audience.
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

/** An MCP client known in advance. */
export interface PreRegisteredClient {
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly clientName: string;
  readonly redirectUris: readonly string[];
}

/** Where a key-encryption key (32 bytes, base64url) comes from, or the key service that has it; the first is the newest and wraps. */
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

/** The whole routes file, checked and with every default filled in. Durations in seconds, sizes in bytes. */
export interface Config {
  /** Path of the file it came from; relative paths inside it resolve against its folder. */
  readonly file: string;
  /** Issuer of our authorization server: an https origin without path; sign-in happens on its host. */
  readonly issuer: string;
  readonly listen: {
    /** `host:port` or `unix:/path`. */
    readonly grpc: string;
    readonly http: string;
    readonly admin: string;
    /** TLS on the gRPC port, for those alone who hold a certificate of `clientCa` (PEM files); absent: plain text. */
    readonly grpcTls?: {
      readonly certificate: string;
      readonly key: string;
      readonly clientCa: string;
      /** `DNS:name` or `URI:spiffe://...` of the certificate, one of which must match; empty: any of that CA. */
      readonly clientNames: readonly string[];
    };
    /** What Envoy proves itself with on TCP listeners. The first is what the generated Envoy sends; every one is accepted. */
    readonly envoySecrets: readonly string[];
    /** `none`: whoever reaches the gRPC address is taken for Envoy; loopback addresses only. */
    readonly grpcAuthentication: "required" | "none";
    /** Permissions of `unix:` sockets. */
    readonly socketMode: number;
  };
  readonly database: {
    /** Absent: embedded database in `dir`. `DATABASE_URL` fills it. */
    readonly url?: string;
    /** For LISTEN where `url` is a transaction-mode pooler. `DATABASE_LISTEN_URL` fills it. */
    readonly listenUrl?: string;
    /** How Postgres is reached; absent: as the URLs say (`sslmode`). */
    readonly tls?: "verify-full" | "disable";
    /** PEM file of the authorities of the server's certificate. */
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
  readonly externalTokens: {
    readonly ttl: number;
    readonly refreshIdleTtl: number;
    readonly refreshAbsoluteTtl: number;
    /** Seconds in which a refresh token may be used again, for the same successor; 0: not at all. */
    readonly refreshTokenGrace: number;
    readonly leeway: number;
    readonly maxBytes: number;
    readonly trustedIssuers: readonly TrustedIssuer[];
  };
  readonly authorizationServer: {
    readonly dynamicClientRegistration: boolean;
    /** Whether a client may be known by the URL of its document (Client ID Metadata Document). */
    readonly clientIdMetadataDocument: boolean;
    /** Seconds after which a person is asked again about a client they have allowed. */
    readonly consentTtl: number;
    /** Host patterns (`*.example.com`) whose Client ID Metadata Documents are accepted; empty: any. */
    readonly allowedClientIdDomains: readonly string[];
    readonly clients: readonly PreRegisteredClient[];
  };
  readonly upstreamOAuth: {
    /** Hosts, `host:port` or CIDR blocks that safe fetching may reach although private; http is allowed for these. */
    readonly allowedPrivateHosts: readonly string[];
    /** Narrows where authorization-server metadata may come from; empty: anywhere public. */
    readonly allowedAsMetadataDomains: readonly string[];
    readonly clientIdMetadataDocument: "auto" | "always" | "never";
    /** Where the operator publishes our Client ID Metadata Document, when route hosts are not public; it is our client id then. */
    readonly clientIdMetadataUrl?: string;
    readonly clientName: string;
    /** One outward call, ms; largest answer, bytes. */
    readonly timeoutMs: number;
    readonly maxResponseBytes: number;
    readonly pendingTtl: number;
    /** Of all our outbound calls. */
    readonly proxies: EgressProxies;
  };
  readonly check: {
    /** A check is answered within this, ms. */ readonly deadlineMs: number;
    readonly maxHeaderBytes: number;
  };
  /** What one party may use up; the rest stands with what it limits (docs/threat-model.md lists all). */
  readonly limits: {
    /** Per hour, address (IPv6: /64) and replica. */
    readonly registrationsPerAddress: number;
    readonly authorizationsPerAddress: number;
    /** Consents under way; the oldest gives way. */
    readonly pendingAuthorizationsPerUser: number;
    /** Documents and key sets of MCP clients without a grant here, per hour and replica: asked for by one address, ... */
    readonly clientFetchesPerAddress: number;
    /** ... and from one host. */
    readonly clientFetchesPerHost: number;
    /** Documents and key sets of MCP clients that are being fetched at a time. */
    readonly clientFetchesAtOnce: number;
    /** Lines of one message per minute that name no known person; the rest is counted. */
    readonly logLines: number;
    /** Body of a request to our own endpoints. */
    readonly bodyBytes: number;
    /** Per in-memory cache that holds one entry per person or connection. */
    readonly cacheEntries: number;
    /** Metadata documents of upstreams and their authorization servers. */
    readonly metadataCacheEntries: number;
    readonly tokenCacheBytes: number;
    /** A list of tools that policy narrows, or one event of a stream on which lists may come. */
    readonly toolListBytes: number;
  };
  /** Bearer tokens of the admin API; none: there is no admin API. */
  readonly adminApi: { readonly adminTokens: readonly string[]; readonly viewerTokens: readonly string[] };
  readonly audit: { /** Events older than this are removed, seconds. */ readonly retention: number };
  readonly log: { readonly level: "trace" | "debug" | "info" | "warn" | "error" };
  /** What only `envoy-config` needs. */
  readonly envoy: {
    readonly listen: string;
    readonly admin?: string;
    readonly tls: {
      readonly certificate: string;
      readonly key: string;
      /** Addresses and CIDR blocks of what terminates TLS in front of Envoy; present: Envoy speaks plain HTTP, to these alone. */
      readonly terminatedBy?: readonly string[];
    };
    /** Where routes with an `http:` origin are served, at their own ports; absent: the loopback address that `from` means. */
    readonly httpAddress?: string;
    /** PEM bundle that upstream certificates are checked against. */
    readonly upstreamCa: string;
    /** Trusted proxies in front of Envoy that append to `X-Forwarded-For`; default 0: the peer is the client. */
    readonly xffNumTrustedHops: number;
    /** How long a client may take to send one request, or to read the end of an answer, s; answers may begin and end when they like. */
    readonly requestTimeout: number;
    /** How long a connection stays open without a request, before the first one too, s. */
    readonly idleTimeout: number;
    /** Connections of clients at once. */
    readonly maxConnections: number;
    /** What Envoy's heap may grow to; Envoy sheds load before. */
    readonly maxHeapBytes: number;
    /** OpenTelemetry collector (OTLP over gRPC) and how many of the requests without a trace of their own begin one. */
    readonly tracing?: { readonly collector: string; readonly samplePercent: number };
    /** Where Envoy finds us; default: `listen`. */
    readonly sidecar: {
      readonly grpc: readonly string[];
      readonly http: readonly string[];
      /** PEM files as Envoy sees them: what it shows us, and whom it expects. */
      readonly grpcTls?: {
        readonly ca: string;
        readonly certificate: string;
        readonly key: string;
        readonly serverName: string;
      };
    };
  };
  /** For routes that do not say. */
  readonly passIdentityHeaders: boolean;
  /** Which groups of a person the identity assertion names. */
  readonly identityAssertion: {
    /** Names, or prefixes followed by `*`; absent: any. */
    readonly groups?: readonly string[];
    readonly maxGroups: number;
  };
  /** Serves routes that have none of their own. */
  readonly policy?: PolicySource;
  readonly routes: readonly Route[];
}
