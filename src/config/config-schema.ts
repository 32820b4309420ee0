import { z } from "zod";
import { systemAuthorities } from "../egress/connector.ts";
import { serviceAccountId } from "../model/subject.ts";
import { claimHeadersSchema } from "./claim-headers.ts";
import { maxClientNameLength, maxRedirectUris } from "./client-metadata-rules.ts";
import type { Fields } from "./field-types.ts";
import { signInParameterFault } from "./sign-in-providers.ts";
import { maxWorkers } from "./workers.ts";

const kib = 1024;
const day = 86_400;

/** The routes file without `routes` and `policy`, as written: snake_case, defaults filled in. */
export function configSchema(f: Fields) {
  const hostPatterns = z
    .array(
      z
        .string()
        .regex(/^(\*\.)?([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+$/, {
          error: (issue) => `${JSON.stringify(issue.input)} is not a host pattern`,
        })
        // Hosts of URLs, with which they are compared, are lower case.
        .toLowerCase(),
    )
    .min(1)
    .optional();
  const claims = f.section({
    user: f.text().default("sub"),
    email: f.text().default("email"),
    name: f.text().default("name"),
    groups: f.text().default("groups"),
  });
  const emailTrust = {
    trust_email: z.boolean().optional(),
    email_domains: z
      .array(
        z
          .string()
          .regex(/^([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+$/, {
            error: (issue) => `${JSON.stringify(issue.input)} is not a domain: write what follows the @`,
          })
          .toLowerCase(),
      )
      .min(1)
      .optional(),
  };
  const routeNames = z.array(f.text()).min(1);
  const provider = z.strictObject({
    id: f.identifier().optional(),
    name: f.text().optional(),
    issuer: f.url(),
    client_id: f.text(),
    client_secret: f.secret().optional(),
    scopes: z
      .array(f.text())
      .min(1)
      .refine((scopes) => scopes.join(" ").split(" ").includes("openid"), {
        error: "without the scope openid the provider issues no ID token, and sign-in fails",
        params: { fix: "add openid" },
      })
      .default(["openid", "profile", "email"]),
    authorization_url_params: z
      .record(z.string(), z.string())
      .superRefine((params, issues) => {
        for (const name of Object.keys(params)) {
          const fault = signInParameterFault(name);
          if (fault !== undefined)
            issues.addIssue({
              code: "custom",
              path: [name],
              message: fault.message,
              params: { fix: fault.fix },
            });
        }
      })
      .default({}),
    claims,
    ...emailTrust,
  });
  const trustedIssuer = z.strictObject({
    id: f.identifier().optional(),
    issuer: f.url(),
    jwks_uri: f.url().optional(),
    audience: f.oneOrMore(f.text()),
    routes: z.union([routeNames, z.record(f.text(), routeNames)]).optional(),
    algorithms: z
      .array(
        z.enum(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]),
      )
      .min(1)
      .default(["RS256", "PS256", "ES256", "EdDSA"]),
    claims,
    ...emailTrust,
    required_claims: z
      .record(
        z.string(),
        z.unknown().refine(isClaimValue, {
          error: "no claim of a token can have this value",
          params: {
            fix: "write a string, a number, true or false, or a list of alternatives; name a nested claim by its path: address/country",
          },
        }),
      )
      .default({}),
  });
  const client = z.strictObject({
    client_id: f.text().refine((id) => id !== serviceAccountId, {
      error: `the client id ${serviceAccountId} is reserved for service accounts`,
      params: { fix: "give the client another id" },
    }),
    client_secret: f.secret().optional(),
    client_name: f.text().max(maxClientNameLength).optional(),
    redirect_uris: z.array(f.redirectUri()).min(1).max(maxRedirectUris),
  });
  const bearer = f.secret().refine((value) => /^[\x21-\x7e]{32,}$/.test(value), {
    error: "a token of the admin API is too short, or has characters that are not valid in a header",
    params: { fix: "generate one: openssl rand -base64 33" },
  });
  const adminToken = z.union([bearer, z.strictObject({ name: f.identifier(), token: bearer })]);
  const hostName = z
    .string()
    .regex(/^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])$/, {
      error: (issue) =>
        `${JSON.stringify(issue.input)} is not a host name: write it without scheme, port and path`,
    })
    .toLowerCase();
  const envOrFile = { env: f.text().optional(), file: f.path().optional() };
  const vault = z.strictObject({
    address: f.url(),
    key: f.text(),
    mount: f.text().default("transit"),
    namespace: f.text().optional(),
    token: z
      .strictObject(envOrFile)
      .refine((value) => (value.env === undefined) !== (value.file === undefined), {
        error: "Vault's token comes from the environment or from a file",
        params: { fix: "write exactly one of env and file" },
      }),
  });
  const awsKms = z.strictObject({
    key: f.text(),
    region: f.text().optional(),
    endpoint: f.url().optional(),
  });
  const googleKms = z.strictObject({
    key: f
      .text()
      .refine(
        (name) => /^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/.test(name),
        {
          error: "not the name of a Google Cloud KMS key",
          params: { fix: "write projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version" },
        },
      ),
    endpoint: f.url().optional(),
  });
  const sources = {
    ...envOrFile,
    vault: vault.optional(),
    aws_kms: awsKms.optional(),
    google_kms: googleKms.optional(),
  };
  const key = z
    .strictObject({ kid: f.identifier(), ...sources })
    .refine(
      ({ kid: _, ...source }) => Object.values(source).filter((value) => value !== undefined).length === 1,
      {
        error: "an encryption key comes from the environment, from a file or from one key service",
        params: { fix: "write exactly one of env, file, vault, aws_kms and google_kms" },
      },
    );

  const envoySecret = f.secret().refine((value) => /^[A-Za-z0-9._~+/=-]{32,256}$/.test(value), {
    error: "too short, or has characters that are not valid in a header of Envoy's configuration",
    params: { fix: "generate one: openssl rand -base64 33" },
  });

  const networkAddress = f.address().refine((value) => !value.startsWith("unix:"), {
    error: "Envoys on other machines cannot reach a Unix socket",
    params: { fix: "write host:port; for an Envoy on this machine, use serve --xds-dir instead" },
  });

  return z.strictObject({
    issuer: f.origin(),
    listen: f.section({
      grpc: f.address().default("127.0.0.1:50051"),
      http: f.address().default("127.0.0.1:8080"),
      admin: f.address().default("127.0.0.1:9090"),
      grpc_tls: z
        .strictObject({
          certificate: f.path(),
          key: f.path(),
          client_ca: f.path(),
          client_names: z.array(f.text()).default([]),
        })
        .optional(),
      envoy_secret: f.oneOrMore(envoySecret).optional(),
      http_tls: z.strictObject({ certificate: f.path(), key: f.path() }).optional(),
      admin_tls: z.strictObject({ certificate: f.path(), key: f.path() }).optional(),
      xds: z
        .strictObject({
          address: networkAddress,
          certificate: f.path(),
          key: f.path(),
          secret: f.oneOrMore(envoySecret),
        })
        .optional(),
      grpc_authentication: z.enum(["required", "none"]).default("required"),
      socket_mode: z
        .string()
        .regex(/^0?[0-7]{3}$/, { error: "not the permissions of a file: write three octal digits in quotes" })
        .default("660"),
    }),
    workers: z.union([z.literal("auto"), z.int().min(1).max(maxWorkers)]).default(1),
    database: f.section({
      url: f.secret().optional(),
      listen_url: f.secret().optional(),
      tls: z.enum(["verify-full", "disable"]).optional(),
      tls_ca: f.path().optional(),
      dir: f.path().default(() => f.path().parse("data")),
    }),
    encryption: f.section({ keys: z.array(key).min(1).optional() }),
    paths: f.section({
      prefix: z
        .string()
        .regex(/^(\/[A-Za-z0-9._~-]+)+$/, {
          error: (issue) => `${JSON.stringify(issue.input)} is not a path prefix`,
        })
        .default("/.pomerium"),
    }),
    sign_in: f.section({
      providers: z.array(provider).default([]),
      session_ttl: f.duration(60).default(14 * 3600),
      recheck: f.duration(1).default(3600),
      recheck_grace: f.duration().default(3600),
    }),
    sign_out: f.section({ ends: z.enum(["browser", "everything"]).default("browser") }),
    external_tokens: f.section({
      ttl: f.duration(1).default(3600),
      refresh_idle_ttl: f.duration(60).default(30 * day),
      refresh_absolute_ttl: f.duration(60).default(365 * day),
      refresh_token_grace: f.duration(0, 300).default(30),
      leeway: f.duration().default(30),
      max_bytes: f.size(kib, 64 * kib).default(16 * kib),
      trusted_issuers: z.array(trustedIssuer).default([]),
    }),
    authorization_server: f.section({
      dynamic_client_registration: z.boolean().default(true),
      client_id_metadata_document: z.boolean().default(true),
      consent_ttl: f.duration(60).default(90 * day),
      allowed_client_id_domains: hostPatterns,
      clients: z.array(client).default([]),
    }),
    upstream_oauth: f.section({
      allowed_private_hosts: z.array(f.privateHost()).default([]),
      allowed_as_metadata_domains: hostPatterns,
      client_id_metadata_document: z.enum(["auto", "always", "never"]).default("auto"),
      client_id_metadata_url: f.url().optional(),
      client_name: f.text().default("envoy-mcp-auth"),
      timeout: f.duration(0.1).default(5),
      max_response_bytes: f.size(kib, 16 * kib * kib).default(kib * kib),
      pending_ttl: f.duration(60).default(600),
      refresh_ahead: f.section({
        used_within: f
          .duration()
          .refine((seconds) => seconds === 0 || seconds >= 3600, {
            error: "the duration is shorter than an hour",
            params: { fix: "write 1h or more, or 0 for no background refresh" },
          })
          .default(7 * day),
      }),
    }),
    egress: f.section({
      https_proxy: f.secret().optional(),
      http_proxy: f.secret().optional(),
      no_proxy: z.array(f.text()).optional(),
    }),
    check: f.section({
      deadline: f.duration(0.05).default(5),
      max_header_bytes: f.size(8 * kib, 1024 * kib).default(60 * kib),
    }),
    limits: f.section({
      registrations_per_address: z.int().min(1).default(100),
      authorizations_per_address: z.int().min(1).default(1000),
      pending_authorizations_per_user: z.int().min(1).max(1000).default(20),
      client_fetches_per_address: z.int().min(1).default(100),
      client_fetches_per_host: z.int().min(1).default(100),
      client_fetches_at_once: z.int().min(1).max(1000).default(20),
      log_lines: z.int().min(1).default(60),
      body_bytes: f.size(kib, 56 * kib).default(16 * kib),
      cache_entries: z.int().min(100).default(20_000),
      metadata_cache_entries: z.int().min(1).default(500),
      tool_list_bytes: f.size(64 * kib, 16 * kib * kib).default(2 * kib * kib),
      token_cache_bytes: f.size(kib * kib, 1024 * kib * kib).default(64 * kib * kib),
    }),
    admin_api: f.section({
      admin_tokens: z.array(adminToken).default([]),
      viewer_tokens: z.array(adminToken).default([]),
      // Parsed by `readAdminPolicies`.
      admins: z.unknown().optional(),
      viewers: z.unknown().optional(),
      hosts: z.array(hostName).min(1).optional(),
    }),
    audit: f.section({
      retention: f.duration(3600).default(365 * day),
      export: f.section({
        http: z
          .strictObject({
            url: f.url(),
            bearer: f.secret().optional(),
            headers: z.record(z.string(), f.secret()).default({}),
            format: z.enum(["json", "cloudevents"]).default("json"),
          })
          .optional(),
      }),
    }),
    log: f.section({
      level: z.enum(["trace", "debug", "info", "warn", "error"]).default("info"),
      decisions: z.enum(["denied", "all"]).default("denied"),
    }),
    envoy: f.section({
      listen: f.address().default("0.0.0.0:443"),
      admin: f.address().optional(),
      tls: f.section({
        certificate: f.path().optional(),
        key: f.path().optional(),
        terminated_by: f.oneOrMore(f.addressBlock()).optional(),
      }),
      http_address: z.union([z.ipv4(), z.ipv6()]).optional(),
      upstream_ca: f.path().default(systemAuthorities),
      xff_num_trusted_hops: z.int().min(0).max(16).optional(),
      response_path: z.boolean().default(true),
      request_timeout: f.duration(1).default(60),
      idle_timeout: f.duration(1).default(60),
      max_connections: z.int().min(100).default(50_000),
      max_heap_bytes: f.size(64 * kib * kib, 1024 * kib * kib * kib).default(kib * kib * kib),
      tracing: z
        .strictObject({ collector: f.address(), sample_percent: z.number().min(0).max(100).default(100) })
        .optional(),
      sidecar: f.section({
        grpc: f.oneOrMore(f.address()).optional(),
        http: f.oneOrMore(f.address()).optional(),
        grpc_tls: z
          .strictObject({ ca: f.path(), certificate: f.path(), key: f.path(), server_name: f.text() })
          .optional(),
        http_tls: z.strictObject({ ca: f.path(), server_name: f.text() }).optional(),
        xds: z
          .strictObject({
            addresses: f.oneOrMore(networkAddress).optional(),
            ca: f.path(),
            server_name: f.text(),
            credential: f.path(),
          })
          .optional(),
      }),
    }),
    aggregation: f.section({
      listen: f.address().default("127.0.0.1:8090"),
      through: f.url({ http: true }).optional(),
      ca: f.path().default(systemAuthorities),
    }),
    /** Pomerium's global default for routes. */
    pass_identity_headers: z.boolean().default(true),
    /** Pomerium's key; also a default for routes. */
    jwt_claims_headers: claimHeadersSchema().optional(),
    identity_assertion: f.section({
      groups: z.array(f.text()).optional(),
      max_groups: z.int().min(0).max(1000).default(100),
    }),
  });
}

/** Whether a claim of a token can equal this: a scalar, or a list of alternatives. */
function isClaimValue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0 && value.every((entry) => isScalar(entry));
  return isScalar(value);
}

function isScalar(value: unknown): boolean {
  return typeof value === "string" || typeof value === "boolean" || Number.isFinite(value);
}
