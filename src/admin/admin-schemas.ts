import { z } from "zod";
import { literalFields } from "../config/literal-fields.ts";
import { routeSchema } from "../config/route-schema.ts";

const policy = z
  .unknown()
  .describe("A policy as in the routes file (docs/policy.md); absent: the file's top-level policy.");

/** What the admin API takes and gives (F7.5), as it is described in its OpenAPI document; tests hold answers against them. */
export const adminSchemas = {
  /** An entry of `routes`, as the routes file's own schema has it; secrets are written as they are. */
  RouteSettings: routeSchema(literalFields()).extend({ policy: policy.optional() }),
  Route: z.strictObject({
    id: z.string(),
    source: z.enum(["file", "database"]),
    name: z.string().optional(),
    description: z.string().optional(),
    logo_url: z.string().optional(),
    url: z.string().optional().describe("Where MCP clients connect."),
    kind: z.enum(["server", "client"]).optional(),
    auth: z
      .enum(["oauth", "none", "api_key", "headers", "token_exchange", "client_credentials", "id_jag"])
      .optional(),
    enabled: z.boolean().optional(),
    in_force: z.boolean().describe("False: the route contradicts the routes file; see problems."),
    to: z.array(z.string()).optional().describe("Administrators only."),
    problems: z
      .array(z.strictObject({ path: z.string(), message: z.string(), fix: z.string() }))
      .optional()
      .describe("Administrators only."),
    version: z.int().optional().describe("Routes of the database, administrators only. Send it as If-Match."),
    created_at: z.iso.datetime().optional(),
    updated_at: z.iso.datetime().optional(),
    settings: z
      .record(z.string(), z.unknown())
      .optional()
      .describe("As RouteSettings, each secret replaced by has_NAME: true. Administrators only."),
  }),
  Error: z.strictObject({
    error: z.string().describe("Stable code."),
    error_description: z.string(),
    problems: z.array(z.strictObject({ path: z.string(), message: z.string(), fix: z.string() })).optional(),
    what_to_do: z.string().optional().describe("What to set by hand, after a discovery that failed."),
  }),
  AuditEvent: z.strictObject({
    id: z.int().describe("Grows; an export goes on behind the last one it has seen."),
    at: z.iso.datetime(),
    action: z.string(),
    user_id: z.string().optional(),
    client_id: z.string().optional(),
    grant_id: z.string().optional(),
    route_id: z.string().optional(),
    upstream: z.string().optional(),
    issuer: z.string().optional(),
    reason: z.string().optional(),
    request_id: z.string().optional(),
    detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  }),
} as const;
