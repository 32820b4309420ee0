import { z } from "zod";
import type { WellKnownText } from "../model/route.ts";
import { claimHeadersSchema } from "./claim-headers.ts";
import type { Fields } from "./field-types.ts";
import { requestHeaderFault } from "./header-names.ts";
import { labelsSchema } from "./labels.ts";
import { pathFault } from "./paths.ts";
import { upstreamAuthSchemas } from "./upstream-auth/upstream-auth.ts";

const kib = 1024;

function rejectHeaders(use: "pass" | "set", { headerRules }: Fields) {
  return (names: readonly string[], issues: z.RefinementCtx): void => {
    for (const [index, name] of names.entries()) {
      const twin = names.slice(0, index).find((one) => one.toLowerCase() === name.toLowerCase());
      const message =
        requestHeaderFault(name.toLowerCase(), use, headerRules) ??
        (use === "set" && headerRules === "all" && twin !== undefined
          ? `${name} and ${twin} are one header`
          : undefined);
      if (message === undefined) continue;
      const path = [use === "pass" ? index : name];
      issues.addIssue({ code: "custom", path, message, params: { fix: `remove ${name}` } });
    }
  };
}

/** An empty list says nothing, and is usually the rest of an edit. Of a stored route, its names may have been removed. */
function rejectEmpty(key: string, { literal }: Fields) {
  return (names: readonly string[], issues: z.RefinementCtx): void => {
    if (names.length > 0 || literal) return;
    const params = { fix: `name at least one header, or remove ${key}` };
    issues.addIssue({ code: "custom", message: `${key} is empty`, params });
  };
}

/** An entry of `routes` without its `policy`, as written: snake_case, defaults filled in. */
export function routeSchema(f: Fields) {
  const { upstreamAuth, upstreamOAuth2, header, headerValue } = upstreamAuthSchemas(f);
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
    consent: z.enum(["auto", "challenge", "elicitation"]).default("auto"),
    tools,
    request_headers: f
      .section({
        pass: z
          .array(z.string())
          .superRefine(rejectHeaders("pass", f))
          .superRefine(rejectEmpty("pass", f))
          .default([]),
        set: z
          .record(header, headerValue)
          .superRefine((given, issues) => rejectHeaders("set", f)(Object.keys(given), issues))
          .superRefine((given, issues) => rejectEmpty("set", f)(Object.keys(given), issues))
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
    /** For applications and people: listings show them, the gateway does not read them. */
    labels: labelsSchema().optional(),
    from: f.text(),
    /** Required, except for an aggregated route. */
    to: f.oneOrMore(f.url({ http: true })).optional(),
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
      aggregate: z
        .strictObject({
          routes: z.union([z.literal("all"), z.array(f.text()).min(1)]),
          prefix: z
            .string()
            .refine((value) => /^(?:[A-Za-z0-9_-]|\{route\}){0,32}$/.test(value), {
              error: (issue) => `${JSON.stringify(issue.input)} is not a prefix of names`,
              params: {
                fix: 'write letters, digits, _ and -, and {route} for the id of the member: "{route}__"',
              },
            })
            .default("{route}__"),
        })
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
    jwt_claims_headers: claimHeadersSchema().optional(),
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

/** Reserved first segments: these documents decide where clients authorize, and which issuer they trust. */
const reservedSegments = new Set([
  "oauth-authorization-server",
  "openid-configuration",
  "oauth-protected-resource",
  "pomerium",
]);
/** Size of a text, bytes. */
const maxTextBytes = 16 * 1024;
const maxTexts = 32;
const segments = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:\/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,3}$/;

/** Why a name below `/.well-known/` cannot be served; undefined if it can. */
function nameFault(name: string): string | undefined {
  if (!segments.test(name))
    return `${JSON.stringify(name)} is not an exact name below /.well-known/ (letters, digits, . _ -, up to four segments)`;
  const [first = ""] = name.toLowerCase().split("/");
  return reservedSegments.has(first) ? `/.well-known/${name} is served by the gateway itself` : undefined;
}

/** The text as it is sent; undefined if the value is invalid. */
function read(value: unknown): WellKnownText | undefined {
  if (typeof value === "string")
    return { contentType: "text/plain; charset=utf-8", body: value.replace(/\r\n?/g, "\n") };
  if (typeof value !== "object" || value === null) return undefined;
  return { contentType: "application/json", body: JSON.stringify(value) };
}

/** Why a text cannot be served. */
function textFault(value: unknown): string | undefined {
  const text = read(value);
  if (text === undefined) return "a text must be a string, or a mapping or list that is served as JSON";
  if (text.body === "") return "the text is empty";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are rejected here
  if (!text.body.isWellFormed() || /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text.body))
    return "the text has control characters";
  if (Buffer.byteLength(text.body) > maxTextBytes) return `the text is longer than ${maxTextBytes} bytes`;
  return undefined;
}

/** `well_known` of a route, as written. */
function wellKnownSchema() {
  return z.record(z.string(), z.unknown()).superRefine((given, issues) => {
    const fail = (path: string[], message: string, fix: string) =>
      issues.addIssue({ code: "custom", path, message, params: { fix } });
    if (Object.keys(given).length > maxTexts)
      fail([], `more than ${maxTexts} texts`, "serve the others from another server");
    for (const [name, value] of Object.entries(given)) {
      const fault = nameFault(name);
      if (fault !== undefined)
        fail([name], fault, "write the name without /.well-known/: openai-apps-challenge, security.txt");
      const wrong = textFault(value);
      if (wrong !== undefined) fail([name], wrong, "write the text, or a mapping for JSON");
    }
  });
}

/** The texts of a validated `well_known`, by path. */
export function wellKnownTexts(
  given: Readonly<Record<string, unknown>> | undefined,
): ReadonlyMap<string, WellKnownText> {
  return new Map(
    Object.entries(given ?? {}).flatMap(([name, value]) => {
      const text = read(value);
      return text === undefined ? [] : [[`/.well-known/${name}`, text] as const];
    }),
  );
}
