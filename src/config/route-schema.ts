import { z } from "zod";
import type { Fields } from "./fields.ts";
import { requestHeaderFault } from "./header-names.ts";
import { pathFault } from "./paths.ts";
import { upstreamAuthSchemas } from "./upstream-auth/upstream-auth.ts";
import { wellKnownSchema } from "./well-known.ts";

const kib = 1024;

function rejectHeaders(use: "pass" | "set") {
  return (names: readonly string[], issues: z.RefinementCtx): void => {
    for (const [index, name] of names.entries()) {
      const message = requestHeaderFault(name.toLowerCase(), use);
      if (message === undefined) continue;
      const path = [use === "pass" ? index : name];
      issues.addIssue({ code: "custom", path, message, params: { fix: `remove ${name}` } });
    }
  };
}

/** An entry of `routes` without its `policy`, as written: snake_case, defaults filled in. */
export function routeSchema(f: Fields) {
  const { upstreamAuth, upstreamOAuth2, header } = upstreamAuthSchemas(f);
  const tools = z
    .strictObject({ allow: z.array(f.text()).optional(), deny: z.array(f.text()).optional() })
    .optional();
  const binding = z
    .string()
    .refine((value) => value === "per_user", {
      error: (issue) =>
        issue.input === "per_session" || issue.input === "service_account"
          ? `upstream_token_binding: ${issue.input} would lose or share users' tokens and is not supported`
          : `${JSON.stringify(issue.input)} is not an upstream_token_binding`,
      params: {
        fix: "write per_user; for one token for all users, set mcp.server.upstream_auth: {client_credentials: {...}}",
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
        pass: z.array(z.string()).superRefine(rejectHeaders("pass")).default([]),
        set: z
          .record(header, f.secret())
          .superRefine((given, issues) => rejectHeaders("set")(Object.keys(given), issues))
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
    /** Pomerium's key for the path of `from`. */
    prefix: f.text().optional(),
    /** Replaces the path of `from` in requests to the upstream, as a path in `to` does. */
    prefix_rewrite: z
      .string()
      .refine(
        (value) => /^\/([A-Za-z0-9._~!$&'()*+,=:@/-]*)$/.test(value) && pathFault(value) === undefined,
        {
          error: (issue) => `${JSON.stringify(issue.input)} is not a path`,
          params: { fix: "write / to remove the path of `from`, or another path without escapes: /mcp" },
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
