import { z } from "zod";
import { checkClientProof, clientSigningAlgs } from "./client-metadata-rules.ts";
import type { Fields } from "./fields.ts";
import { credentialHeaderFault, isHeaderValue, requestHeaderFault } from "./header-names.ts";
import { pathFault } from "./paths.ts";
import { wellKnownSchema } from "./well-known.ts";

const kib = 1024;

/** What `authorization_url_params` may not name: it would undo a protection. */
const ownAuthorizationParams = new Set([
  "response_type",
  "client_id",
  "redirect_uri",
  "state",
  "code_challenge",
  "code_challenge_method",
]);

function refuseHeaders(use: "pass" | "set") {
  return (names: readonly string[], issues: z.RefinementCtx): void => {
    for (const [index, name] of names.entries()) {
      const message = requestHeaderFault(name.toLowerCase(), use);
      if (message === undefined) continue;
      const path = [use === "pass" ? index : name];
      issues.addIssue({ code: "custom", path, message, params: { fix: `remove ${name}` } });
    }
  };
}

/** One entry of `routes` but its `policy`, as written: snake_case, defaults filled in. */
export function routeSchema(f: Fields) {
  const authMethod = z.preprocess(
    // Pomerium's words for the two it knows.
    (value) =>
      value === "header" ? "client_secret_basic" : value === "params" ? "client_secret_post" : value,
    z.enum(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]).optional(),
  );
  const scopes = z.array(f.text()).optional();
  const secrets = {
    client_secret: f.secret().optional(),
    private_key: f.secret().optional(),
    signing_alg: z.enum(clientSigningAlgs).optional(),
  };
  const headerFix = "name the header that the upstream reads its credential from: Authorization, X-Api-Key";
  const header = z.string().refine((name) => credentialHeaderFault(name) === undefined, {
    error: (issue) => credentialHeaderFault(String(issue.input)) ?? "",
    params: { fix: headerFix },
  });
  const headerValue = f
    .secret()
    .refine(isHeaderValue, {
      error: "the value has a line break or another control character",
      params: { fix: "write it on one line, printable characters only" },
    })
    .meta({ writeOnly: true });
  const headers = z.record(z.string(), headerValue).superRefine((given, issues) => {
    const names = Object.keys(given);
    for (const [index, name] of names.entries()) {
      const twin = names.slice(0, index).find((one) => one.toLowerCase() === name.toLowerCase());
      const message = credentialHeaderFault(name) ?? (twin && `${name} and ${twin} are one header`);
      if (message) issues.addIssue({ code: "custom", path: [name], message, params: { fix: headerFix } });
    }
  });
  const upstreamOAuth2 = z
    .strictObject({
      client_id: f.text().optional(),
      ...secrets,
      endpoint: z
        .strictObject({
          auth_url: f.url().optional(),
          token_url: f.url().optional(),
          revocation_url: f.url().optional(),
          auth_style: authMethod,
        })
        .superRefine((given, issues) => {
          // With `auth_style` alone the server is discovered.
          if (!given.auth_url && !given.token_url && !given.revocation_url) return;
          for (const name of ["auth_url", "token_url"] as const)
            if (!given[name])
              issues.addIssue({
                code: "custom",
                path: [name],
                message: "is missing: endpoints are given together, or discovered",
                params: { fix: `add ${name}, or leave auth_style only` },
              });
        })
        .optional(),
      scopes,
      max_scopes: scopes,
      authorization_url_params: z
        .record(z.string(), z.string())
        .superRefine((params, issues) => {
          for (const name of Object.keys(params).filter((one) => ownAuthorizationParams.has(one)))
            issues.addIssue({
              code: "custom",
              path: [name],
              message: `${name} is ours to set: another value would undo a protection`,
              params: { fix: `remove ${name}` },
            });
        })
        .default({}),
    })
    .superRefine((given, issues) => {
      // Without a client of its own it says how the client that registers itself is to prove itself.
      const { client_id, client_secret, private_key } = given;
      const registers = client_id === undefined && client_secret === undefined && private_key === undefined;
      const auth_style = registers ? undefined : given.endpoint?.auth_style;
      checkClientProof({ ...given, auth_style }, issues, ["endpoint", "auth_style"]);
    });
  const upstreamAuth = z
    .preprocess(
      (value) => (value === "none" ? { none: {} } : value),
      z
        .strictObject({
          none: f.section({}).optional(),
          api_key: z.strictObject({ header, value: headerValue }).optional(),
          headers: headers.optional(),
          token_exchange: z
            .strictObject({
              token_url: f.url(),
              client_id: f.text(),
              ...secrets,
              auth_style: authMethod,
              subject_token: z
                .enum(["external_token", "sign_in_id_token", "sign_in_access_token"])
                .default("external_token"),
              audience: f.text().optional(),
              scopes,
            })
            .superRefine(checkClientProof)
            .optional(),
          client_credentials: z
            .strictObject({
              client_id: f.text(),
              ...secrets,
              auth_style: authMethod,
              token_url: f.url().optional(),
              authorization_server_url: f.url().optional(),
              scopes,
              workload_identity_file: f.path().optional(),
            })
            .superRefine(checkClientProof)
            .optional(),
          id_jag: z
            .strictObject({
              idp_token_url: f.url().optional(),
              idp_client_id: f.text(),
              idp_client_secret: f.secret().optional(),
              client_id: f.text(),
              ...secrets,
              auth_style: authMethod,
              scopes,
            })
            .superRefine(checkClientProof)
            .optional(),
        })
        .refine((value) => Object.values(value).filter((kind) => kind !== undefined).length === 1, {
          error: "an upstream is authenticated to in exactly one way",
          params: { fix: "keep one of none, api_key, headers, token_exchange, client_credentials, id_jag" },
        }),
    )
    .meta({ shorthand: { const: "none" } });
  const tools = z
    .strictObject({ allow: z.array(f.text()).optional(), deny: z.array(f.text()).optional() })
    .optional();
  const binding = z
    .string()
    .refine((value) => value === "per_user", {
      error: (issue) =>
        issue.input === "per_session" || issue.input === "service_account"
          ? `upstream_token_binding: ${issue.input} would lose or share people's tokens and is not offered`
          : `${JSON.stringify(issue.input)} is no upstream_token_binding`,
      params: {
        fix: "write per_user; one token for everybody is mcp.server.upstream_auth: {client_credentials: {...}}",
      },
    })
    .optional();
  const server = f.section({
    upstream_oauth2: upstreamOAuth2.optional(),
    upstream_auth: upstreamAuth.optional(),
    authorization_server_url: f.url().optional(),
    expected_issuer: f.url({ http: true }).optional(),
    resource: z.enum(["exact", "parent"]).default("parent"),
    path: z
      .string()
      .startsWith("/", { error: (issue) => `${JSON.stringify(issue.input)} does not start with /` })
      .default("/"),
    max_request_bytes: f.size(kib, 15 * kib * kib).default(kib * kib),
    tools,
    request_headers: f
      .section({
        pass: z.array(z.string()).superRefine(refuseHeaders("pass")).default([]),
        set: z
          .record(header, f.secret())
          .superRefine((given, issues) => refuseHeaders("set")(Object.keys(given), issues))
          .default({}),
      })
      .optional(),
    upstream_token_binding: binding,
  });

  return z.strictObject({
    id: f.identifier().optional(),
    name: f.text().optional(),
    description: z.string().optional(),
    logo_url: f.url({ http: true }).optional(),
    from: f.text(),
    to: f.oneOrMore(f.url({ http: true })),
    /** Pomerium's way to give `from` a path. */
    prefix: f.text().optional(),
    /** What replaces the path of `from` on the way to the upstream; a path in `to` says the same. */
    prefix_rewrite: z
      .string()
      .refine(
        (value) => /^\/([A-Za-z0-9._~!$&'()*+,=:@/-]*)$/.test(value) && pathFault(value) === undefined,
        {
          error: (issue) => `${JSON.stringify(issue.input)} cannot be a path`,
          params: { fix: "write / to take the path of `from` away, or another path without escapes: /mcp" },
        },
      )
      .optional(),
    mcp: f.section({
      server: server.optional(),
      client: f
        .section({ routes: z.array(f.text()).optional(), shares_host: z.boolean().default(false) })
        .optional(),
      upstream_oauth2: upstreamOAuth2.optional(),
      pass_upstream_access_token: z.boolean().optional(),
    }),
    allowed_users: z.array(f.text()).optional(),
    allowed_domains: z.array(f.text()).optional(),
    allowed_idp_claims: z
      .record(z.string(), z.array(z.union([z.string(), z.number(), z.boolean()])))
      .optional(),
    allow_any_authenticated_user: z.boolean().optional(),
    pass_identity_headers: z.boolean().optional(),
    preserve_host_header: z.boolean().optional(),
    tls_upstream_server_name: f.text().optional(),
    tls_server_name: f.text().optional(),
    tls_custom_ca_file: f.path().optional(),
    enabled: z.boolean().default(true),
    well_known: wellKnownSchema().optional(),
    tools,
    upstream_token_binding: binding,
    rate_limit: f
      .section({
        requests_per_minute: z.int().min(1).optional(),
        tool_calls_per_minute: z.int().min(1).optional(),
      })
      .optional(),
  });
}
