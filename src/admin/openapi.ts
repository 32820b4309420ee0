import { z } from "zod";
import { literalFields } from "../config/fields.ts";
import { jsonSchemaOf } from "../config/json-schema.ts";
import { routeSchema } from "../config/route-schema.ts";

const policy = z
  .unknown()
  .describe("A policy as in the routes file (docs/policy.md); absent: the file's top-level policy.");

/** What the admin API takes and gives, as it is described in its OpenAPI document; tests hold answers against them. */
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

const reference = (name: keyof typeof adminSchemas) => ({ $ref: `#/components/schemas/${name}` });
const json = (schema: object) => ({ content: { "application/json": { schema } } });
const error = (description: string) => ({ description, ...json(reference("Error")) });
const route = (description: string) => ({ description, ...json(reference("Route")) });
const refused = {
  "401": error("No token, or not one of ours."),
  "403": error("A viewer's token is not enough."),
};
const unusable = {
  "400": error("What is wrong, field by field."),
  "409": error("The id or the place is taken, or the route stands in the routes file."),
  "415": error("Only application/json is taken."),
  "422": error("Discovery or registration at the upstream failed; what_to_do says what to set by hand."),
};
const query = (name: string, type: string, description: string) => ({
  name,
  in: "query",
  description,
  schema: { type },
});

/** The OpenAPI 3.1 document of the admin API, generated from the schemas that the code itself uses. */
export function openapi(version: string) {
  const settings = { required: true, ...json(reference("RouteSettings")) };
  return {
    openapi: "3.1.0",
    info: {
      title: "envoy-mcp-auth admin API",
      version,
      description:
        "Routes kept in the database beside those of the routes file, and the audit trail. Secrets go in and never come out.",
    },
    servers: [{ url: "/admin/v1" }],
    security: [{ bearer: [] }],
    paths: {
      "/routes": {
        get: {
          operationId: "listRoutes",
          summary: "All routes, the file's and the database's",
          responses: {
            "200": {
              description: "Routes.",
              ...json({
                type: "object",
                required: ["routes"],
                properties: { routes: { type: "array", items: reference("Route") } },
              }),
            },
            "401": refused["401"],
          },
        },
        post: {
          operationId: "createRoute",
          summary: "Create a route; it is served at once, on every replica",
          description:
            "A server with OAuth and no client_id is discovered, and we are registered there, before anything is kept.",
          requestBody: settings,
          responses: { "201": route("The new route."), ...refused, ...unusable },
        },
      },
      "/routes/{id}": {
        parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
        get: {
          operationId: "readRoute",
          summary: "One route",
          responses: { "200": route("The route."), "401": refused["401"], "404": error("No such route.") },
        },
        patch: {
          operationId: "changeRoute",
          summary: "Change a route (RFC 7396)",
          description:
            "What is omitted stays, secrets too; an empty secret is cleared; null removes. Another way to authenticate to the upstream removes the old one with its secrets.",
          parameters: [
            { name: "if-match", in: "header", description: "The version seen.", schema: { type: "string" } },
          ],
          requestBody: {
            required: true,
            ...json({ type: "object", description: "A part of RouteSettings." }),
          },
          responses: {
            "200": route("The changed route."),
            ...refused,
            "404": error("No such route."),
            ...unusable,
            "412": error("The route has another version."),
          },
        },
        delete: {
          operationId: "deleteRoute",
          summary: "Delete a route; its connections end",
          responses: {
            "204": { description: "Deleted." },
            ...refused,
            "404": error("No such route."),
            "409": unusable["409"],
          },
        },
      },
      "/audit": {
        get: {
          operationId: "exportAuditEvents",
          summary: "Audit events as JSON lines, oldest first",
          parameters: [
            query("after", "integer", "Only events with a greater id."),
            query("since", "string", "RFC 3339; only events from then on."),
            query("until", "string", "RFC 3339; only events before."),
            query("action", "string", "Only this kind."),
            query("user_id", "string", "Only of this user."),
            query("route_id", "string", "Only of this route."),
            query("limit", "integer", "At most so many (1000; 10000 at most)."),
          ],
          responses: {
            "200": {
              description: "One event per line.",
              content: { "application/jsonl": { schema: reference("AuditEvent") } },
            },
            "400": error("A parameter cannot be read."),
            ...refused,
          },
        },
      },
      "/openapi.json": {
        get: {
          operationId: "describe",
          summary: "This document",
          responses: { "200": { description: "OpenAPI 3.1.", ...json({ type: "object" }) } },
        },
      },
    },
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: Object.fromEntries(
        Object.entries(adminSchemas).map(([name, schema]) => [name, jsonSchemaOf(schema)]),
      ),
    },
  };
}
