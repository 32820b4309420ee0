import type { z } from "zod";
import { type EgressProxies, isInternal, proxyFor } from "../egress/proxies.ts";
import type { PolicySource, Route } from "../model/route.ts";
import { type AdminAccess, adminAccess } from "./admin-access.ts";
import { claimHeaders } from "./claim-headers.ts";
import type { Config, KeySource, SignInProvider } from "./config.ts";
import type { configSchema } from "./config-schema.ts";
import type { Reporter } from "./reporter.ts";
import { type AskedWorkers, countWorkers, workerAddresses } from "./workers.ts";
import type { ConfigPath } from "./yaml-source.ts";

type TopInput = z.output<ReturnType<typeof configSchema>>;

/** The policies of the file, which are not in its schema. */
export interface Policies {
  readonly policy: PolicySource | undefined;
  readonly admin: Pick<AdminAccess, "admins" | "viewers">;
}

/** Builds the configuration from its validated parts, environment overrides and remaining defaults. */
export function buildConfig(
  file: string,
  input: TopInput,
  env: Readonly<Record<string, string | undefined>>,
  { policy, admin: adminPolicies }: Policies,
  routes: readonly Route[],
  askedWorkers: AskedWorkers = input.workers,
): Config {
  const { listen, database, envoy } = input;
  const workers = countWorkers(askedWorkers);
  const ofWorkers = (addresses: readonly string[]) =>
    addresses.flatMap((address) => workerAddresses(address, workers));
  return {
    file,
    issuer: input.issuer,
    listen: {
      grpc: listen.grpc,
      http: listen.http,
      admin: listen.admin,
      envoySecrets: listen.envoy_secret ?? [],
      grpcAuthentication: listen.grpc_authentication,
      socketMode: Number.parseInt(listen.socket_mode, 8),
      ...(listen.grpc_tls === undefined
        ? {}
        : {
            grpcTls: {
              certificate: listen.grpc_tls.certificate,
              key: listen.grpc_tls.key,
              clientCa: listen.grpc_tls.client_ca,
              clientNames: listen.grpc_tls.client_names,
            },
          }),
      ...(listen.http_tls === undefined ? {} : { httpTls: listen.http_tls }),
      ...(listen.admin_tls === undefined ? {} : { adminTls: listen.admin_tls }),
      ...(listen.xds === undefined ? {} : { xds: xdsListener(listen.xds) }),
    },
    workers: askedWorkers,
    database: {
      url: env.DATABASE_URL || database.url,
      listenUrl: env.DATABASE_LISTEN_URL || database.listen_url,
      tls: database.tls,
      tlsCa: database.tls_ca,
      dir: database.dir,
    },
    encryption: {
      keys: input.encryption.keys?.map(keySource) ?? [{ kid: "default", env: "ENCRYPTION_KEY" }],
    },
    paths: input.paths,
    signIn: {
      providers: input.sign_in.providers.map(provider),
      sessionTtl: input.sign_in.session_ttl,
      recheck: input.sign_in.recheck,
      recheckGrace: input.sign_in.recheck_grace,
    },
    signOut: input.sign_out,
    externalTokens: {
      ttl: input.external_tokens.ttl,
      refreshIdleTtl: input.external_tokens.refresh_idle_ttl,
      refreshAbsoluteTtl: input.external_tokens.refresh_absolute_ttl,
      refreshTokenGrace: input.external_tokens.refresh_token_grace,
      leeway: input.external_tokens.leeway,
      maxBytes: input.external_tokens.max_bytes,
      trustedIssuers: input.external_tokens.trusted_issuers.map((issuer) => ({
        id: issuer.id ?? new URL(issuer.issuer).hostname,
        issuer: issuer.issuer,
        jwksUri: issuer.jwks_uri,
        audience: issuer.audience,
        routes: issuer.routes,
        algorithms: issuer.algorithms,
        claims: issuer.claims,
        trustEmail: issuer.trust_email,
        emailDomains: issuer.email_domains,
        requiredClaims: issuer.required_claims,
      })),
    },
    authorizationServer: {
      dynamicClientRegistration: input.authorization_server.dynamic_client_registration,
      clientIdMetadataDocument: input.authorization_server.client_id_metadata_document,
      consentTtl: input.authorization_server.consent_ttl,
      allowedClientIdDomains: input.authorization_server.allowed_client_id_domains ?? [],
      clients: input.authorization_server.clients.map((client) => ({
        clientId: client.client_id,
        clientSecret: client.client_secret,
        clientName: client.client_name ?? client.client_id,
        redirectUris: client.redirect_uris,
      })),
    },
    upstreamOAuth: {
      allowedPrivateHosts: input.upstream_oauth.allowed_private_hosts,
      allowedAsMetadataDomains: input.upstream_oauth.allowed_as_metadata_domains ?? [],
      clientIdMetadataDocument: input.upstream_oauth.client_id_metadata_document,
      ...(input.upstream_oauth.client_id_metadata_url === undefined
        ? {}
        : { clientIdMetadataUrl: input.upstream_oauth.client_id_metadata_url }),
      clientName: input.upstream_oauth.client_name,
      timeoutMs: input.upstream_oauth.timeout * 1000,
      maxResponseBytes: input.upstream_oauth.max_response_bytes,
      pendingTtl: input.upstream_oauth.pending_ttl,
      refreshAhead: { usedWithin: input.upstream_oauth.refresh_ahead.used_within },
      proxies: readEgressProxies(input.egress, env),
    },
    check: { deadlineMs: input.check.deadline * 1000, maxHeaderBytes: input.check.max_header_bytes },
    limits: {
      registrationsPerAddress: input.limits.registrations_per_address,
      authorizationsPerAddress: input.limits.authorizations_per_address,
      pendingAuthorizationsPerUser: input.limits.pending_authorizations_per_user,
      clientFetchesPerAddress: input.limits.client_fetches_per_address,
      clientFetchesPerHost: input.limits.client_fetches_per_host,
      clientFetchesAtOnce: input.limits.client_fetches_at_once,
      logLines: input.limits.log_lines,
      bodyBytes: input.limits.body_bytes,
      cacheEntries: input.limits.cache_entries,
      metadataCacheEntries: input.limits.metadata_cache_entries,
      toolListBytes: input.limits.tool_list_bytes,
      tokenCacheBytes: input.limits.token_cache_bytes,
    },
    adminApi: adminAccess(input.admin_api, adminPolicies, listen.admin),
    audit: {
      retention: input.audit.retention,
      ...(input.audit.export.http && { http: auditDestination(input.audit.export.http) }),
    },
    log: input.log,
    envoy: {
      listen: envoy.listen,
      admin: envoy.admin,
      tls: {
        certificate: envoy.tls.certificate ?? "/etc/envoy/tls/tls.crt",
        key: envoy.tls.key ?? "/etc/envoy/tls/tls.key",
        ...(envoy.tls.terminated_by === undefined ? {} : { terminatedBy: envoy.tls.terminated_by }),
      },
      ...(envoy.http_address === undefined ? {} : { httpAddress: envoy.http_address }),
      upstreamCa: envoy.upstream_ca,
      xffNumTrustedHops: envoy.xff_num_trusted_hops ?? (envoy.tls.terminated_by ? 1 : 0),
      responsePath: envoy.response_path,
      requestTimeout: envoy.request_timeout,
      idleTimeout: envoy.idle_timeout,
      maxConnections: envoy.max_connections,
      maxHeapBytes: envoy.max_heap_bytes,
      ...(envoy.tracing === undefined
        ? {}
        : { tracing: { collector: envoy.tracing.collector, samplePercent: envoy.tracing.sample_percent } }),
      sidecar: {
        grpc: ofWorkers(envoy.sidecar.grpc ?? [reachable(listen.grpc)]),
        http: ofWorkers(envoy.sidecar.http ?? [reachable(listen.http)]),
        ...(envoy.sidecar.grpc_tls === undefined
          ? {}
          : {
              grpcTls: {
                ca: envoy.sidecar.grpc_tls.ca,
                certificate: envoy.sidecar.grpc_tls.certificate,
                key: envoy.sidecar.grpc_tls.key,
                serverName: envoy.sidecar.grpc_tls.server_name,
              },
            }),
        ...(envoy.sidecar.http_tls === undefined
          ? {}
          : {
              httpTls: { ca: envoy.sidecar.http_tls.ca, serverName: envoy.sidecar.http_tls.server_name },
            }),
        ...(envoy.sidecar.xds === undefined
          ? {}
          : {
              xds: {
                addresses: envoy.sidecar.xds.addresses ?? [reachable(listen.xds?.address ?? "")],
                ca: envoy.sidecar.xds.ca,
                serverName: envoy.sidecar.xds.server_name,
                credential: envoy.sidecar.xds.credential,
              },
            }),
      },
    },
    aggregation: {
      listen: input.aggregation.listen,
      ...(input.aggregation.through === undefined ? {} : { through: input.aggregation.through }),
      ca: input.aggregation.ca,
    },
    passIdentityHeaders: input.pass_identity_headers,
    ...(input.jwt_claims_headers === undefined
      ? {}
      : { claimHeaders: claimHeaders(input.jwt_claims_headers) }),
    identityAssertion: {
      ...(input.identity_assertion.groups === undefined ? {} : { groups: input.identity_assertion.groups }),
      maxGroups: input.identity_assertion.max_groups,
    },
    policy,
    routes,
    reserved: [],
  };
}

function auditDestination({
  url,
  bearer,
  headers,
  format,
}: NonNullable<TopInput["audit"]["export"]["http"]>) {
  return { url, format, headers: { ...headers, ...(bearer && { authorization: `Bearer ${bearer}` }) } };
}

function xdsListener({ secret, ...listener }: NonNullable<TopInput["listen"]["xds"]>) {
  return { ...listener, secrets: secret };
}

type KeyInput = NonNullable<TopInput["encryption"]["keys"]>[number];

function keySource({ kid, vault, aws_kms, google_kms, ...source }: KeyInput): KeySource {
  if (aws_kms)
    return { kid, awsKms: { ...aws_kms, endpoint: aws_kms.endpoint && withoutSlash(aws_kms.endpoint) } };
  if (google_kms)
    return {
      kid,
      googleKms: { ...google_kms, endpoint: google_kms.endpoint && withoutSlash(google_kms.endpoint) },
    };
  if (!vault) return { kid, ...envOrFile(source) };
  const { address, key, mount, namespace, token } = vault;
  return {
    kid,
    vault: { address: withoutSlash(address), key, mount, namespace, token: envOrFile(token) },
  };
}

function withoutSlash(url: string): string {
  return url.replace(/\/+$/, "");
}

function envOrFile(source: { env?: string | undefined; file?: string | undefined }) {
  return source.env === undefined ? { file: source.file ?? "" } : { env: source.env };
}

function provider(input: TopInput["sign_in"]["providers"][number]): SignInProvider {
  const id = input.id ?? new URL(input.issuer).hostname;
  return {
    id,
    name: input.name ?? id,
    issuer: input.issuer,
    clientId: input.client_id,
    clientSecret: input.client_secret,
    scopes: input.scopes,
    authorizationUrlParams: input.authorization_url_params,
    claims: input.claims,
    trustEmail: input.trust_email,
    emailDomains: input.email_domains,
  };
}

/** The address where a local peer reaches a wildcard listener. */
function reachable(address: string): string {
  return address.replace(/^(0\.0\.0\.0|\[::\]):/, "127.0.0.1:");
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The routes file overrides the environment, where lower case names take precedence, as in curl. */
export function readEgressProxies(
  file: {
    readonly https_proxy?: string | undefined;
    readonly http_proxy?: string | undefined;
    readonly no_proxy?: readonly string[] | undefined;
  },
  env: Environment,
): EgressProxies {
  const of = (name: string) => env[name.toLowerCase()] || env[name] || undefined;
  return {
    https: withScheme(file.https_proxy ?? of("HTTPS_PROXY")),
    http: withScheme(file.http_proxy ?? of("HTTP_PROXY")),
    noProxy:
      file.no_proxy ??
      of("NO_PROXY")
        ?.split(/[,\s]+/)
        .filter(Boolean) ??
      [],
  };
}

/** `proxy:3128` is a common notation. */
function withScheme(text: string | undefined): string | undefined {
  return text === undefined || text.includes("://") ? text : `http://${text}`;
}

/**
 * Reports invalid proxies, and servers of the file that cannot be reached through a proxy.
 * @param servers URLs of the file that the gateway calls, with their paths
 */
export function checkEgressProxies(
  proxies: EgressProxies,
  servers: readonly { readonly url: string; readonly path: ConfigPath }[],
  reporter: Reporter,
): void {
  const { https, http } = proxies;
  for (const [key, value] of [
    ["https_proxy", https],
    ["http_proxy", http],
  ] as const) {
    const url = value === undefined ? undefined : URL.parse(value);
    if (url === undefined) continue;
    if (url && /^https?:$/.test(url.protocol) && url.hostname !== "") {
      if (!isDecodable(url.username + url.password))
        reporter.error(
          ["egress", key],
          `user and password of the proxy (${key}, or ${key.toUpperCase()} in the environment) are not percent-encoded`,
          "write %25 for a percent sign",
        );
      continue;
    }
    reporter.error(
      ["egress", key],
      `the proxy (${key}, or ${key.toUpperCase()} in the environment) is not an http or https URL`,
      "write http://host:port; SOCKS is not supported",
    );
  }
  if (https === undefined && http === undefined) return;
  for (const { url, path } of servers) {
    const parsed = URL.parse(url);
    if (!parsed || isInternal(parsed) || proxyFor(parsed, proxies) === undefined) continue;
    if (parsed.protocol === "https:" && parsed.port === "") continue;
    reporter.warn(
      path,
      `calls of the gateway to ${parsed.origin} go through a proxy (egress, HTTPS_PROXY, HTTP_PROXY), which supports https on port 443 only`,
      `add ${parsed.hostname} to egress.no_proxy (NO_PROXY) to reach it directly`,
    );
  }
}

function isDecodable(text: string): boolean {
  try {
    return decodeURIComponent(text) !== undefined;
  } catch {
    return false;
  }
}
