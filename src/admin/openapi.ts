import { z } from "zod";
import { literalFields } from "../config/field-types.ts";
import { availabilities } from "../config/labels.ts";
import { routeSchema } from "../config/route-schema.ts";
import { upstreamAuthTypes } from "../config/upstream-auth/upstream-auth.ts";
import { aliasSchemas } from "./field-aliases.ts";
import { jsonSchemaOf } from "./route-settings.ts";

const policy = z
  .unknown()
  .describe("A policy as in the routes file (docs/policy.md); absent: the file's top-level policy.");

/** Schemas of the admin API's requests and responses. The OpenAPI document is generated from them. */
export const adminSchemas = {
  /** An entry of `routes` with the routes file's schema; secrets are literal values. */
  RouteSettings: routeSchema(literalFields()).extend({ policy: policy.optional(), ...aliasSchemas }),
  Route: z.strictObject({
    id: z.string(),
    source: z.enum(["file", "database"]),
    name: z.string().optional(),
    description: z.string().optional(),
    logo_url: z.string().optional(),
    labels: z.record(z.string(), z.string()).optional(),
    availability: z.enum(availabilities).optional().describe("The label availability."),
    model_intent: z.string().optional().describe("The label model_intent."),
    allow_in_plan_mode: z.boolean().optional().describe("The label allow_in_plan_mode."),
    url: z.string().optional().describe("Where MCP clients connect."),
    kind: z.enum(["server", "client"]).optional(),
    auth: z.enum(upstreamAuthTypes).optional(),
    enabled: z.boolean().optional(),
    in_force: z
      .boolean()
      .describe(
        "False if the route conflicts with the routes file, or its credential is missing (requests get 503); see problems.",
      ),
    to: z.array(z.string()).optional().describe("Administrators only."),
    problems: z
      .array(z.strictObject({ path: z.string(), message: z.string(), fix: z.string() }))
      .optional()
      .describe("Administrators only."),
    version: z.int().optional().describe("Stored routes only, administrators only. Send it as If-Match."),
    created_at: z.iso.datetime().optional(),
    updated_at: z.iso.datetime().optional(),
    discovery: z
      .strictObject({
        issuer: z.string(),
        authorization_endpoint: z.string().optional(),
        token_endpoint: z.string().optional(),
        scopes: z.array(z.string()).describe("Requested from users."),
        client_id: z.string(),
        registered_how: z.enum(["configured", "document", "registered"]),
        at: z.iso.datetime(),
      })
      .optional()
      .describe("What discovery found when the route was created, enabled or changed. Administrators only."),
    settings: z
      .record(z.string(), z.unknown())
      .optional()
      .describe(
        "RouteSettings with each secret replaced by has_NAME: true, or false if it was cleared. Administrators only.",
      ),
  }),
  Error: z.strictObject({
    error: z.string().describe("Stable code."),
    error_description: z.string(),
    problems: z.array(z.strictObject({ path: z.string(), message: z.string(), fix: z.string() })).optional(),
    what_to_do: z
      .string()
      .optional()
      .describe("What to change first; what to configure manually when discovery or registration failed."),
  }),
  AuditEvent: z.strictObject({
    id: z.int().describe("Increasing; an export resumes after the last id it has seen."),
    at: z.iso.datetime(),
    action: z.string(),
    actor: z.string().optional().describe("Who made an administrative change."),
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
const accessErrors = {
  "401": error("The token is missing or unknown."),
  "403": error("An admin token is required."),
};
const inputErrors = {
  "400": error("The input is invalid; problems lists the faults by field."),
  "409": error(
    "The id or the URL is already in use, the route is defined in the routes file, or other stored routes name it (in_use).",
  ),
  "415": error("The content type is not application/json."),
  "422": error(
    "Discovery or registration at the upstream failed; what_to_do says what to configure manually.",
  ),
};
const query = (name: string, type: string, description: string) => ({
  name,
  in: "query",
  description,
  schema: { type },
});

const ifMatch = {
  name: "if-match",
  in: "header",
  description: "The version that the change is based on.",
  schema: { type: "string" },
} as const;

/** The OpenAPI 3.1 document of the admin API. */
export function openapi(version: string) {
  const settings = { required: true, ...json(reference("RouteSettings")) };
  return {
    openapi: "3.1.0",
    info: {
      title: "envoy-mcp-auth admin API",
      version,
      description:
        "Manages the routes stored in the database, which complement the routes file, and exports the audit trail. Secrets are write-only.",
    },
    servers: [{ url: "/admin/v1" }],
    security: [{ bearer: [] }],
    paths: {
      "/routes": {
        get: {
          operationId: "listRoutes",
          summary: "List all routes, from the routes file and the database",
          description:
            "Without parameters, all routes in the order in which they are served; otherwise a page in the order of ids.",
          parameters: [
            query(
              "limit",
              "integer",
              "Maximum number of routes of a page (with after: default 100; at most 1000).",
            ),
            query("after", "string", "Only routes with a greater id: next of the previous page."),
          ],
          responses: {
            "200": {
              description: "Routes.",
              ...json({
                type: "object",
                required: ["routes"],
                properties: {
                  routes: { type: "array", items: reference("Route") },
                  next: { type: "string", description: "There are more routes: send it as after." },
                },
              }),
            },
            "400": error("A parameter is invalid."),
            "401": accessErrors["401"],
          },
        },
        post: {
          operationId: "createRoute",
          summary: "Create a route; every replica serves it immediately",
          description:
            "If the server uses OAuth and its endpoints are not set, the gateway runs discovery, and client registration if no client_id is set, before it stores the route. An empty secret or list of headers is 400.",
          requestBody: settings,
          responses: { "201": route("The new route."), ...accessErrors, ...inputErrors },
        },
      },
      "/routes/{id}": {
        parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
        get: {
          operationId: "readRoute",
          summary: "Read a route",
          responses: {
            "200": route("The route."),
            "401": accessErrors["401"],
            "404": error("No such route."),
          },
        },
        patch: {
          operationId: "changeRoute",
          summary: "Change a route (RFC 7396)",
          description:
            "Omitted fields, secrets included, are unchanged; null removes a field; an empty string clears a secret: requests get 503 until it is set again. Enabling a route that uses OAuth, or changing its upstream, authorization server or client id, runs discovery again. Setting another upstream authentication method removes the previous one with its secrets.",
          parameters: [ifMatch],
          requestBody: {
            required: true,
            ...json({ type: "object", description: "A subset of RouteSettings." }),
          },
          responses: {
            "200": route("The changed route."),
            ...accessErrors,
            "404": error("No such route."),
            ...inputErrors,
            "412": error("The route has changed since that version."),
          },
        },
        delete: {
          operationId: "deleteRoute",
          summary: "Delete a route and end its connections",
          parameters: [ifMatch],
          responses: {
            "204": { description: "Deleted." },
            "400": error("A parameter is invalid."),
            ...accessErrors,
            "404": error("No such route."),
            "409": inputErrors["409"],
            "412": error("The route has changed since that version."),
          },
        },
      },
      "/audit": {
        get: {
          operationId: "exportAuditEvents",
          summary: "Export audit events as JSON lines, oldest first",
          parameters: [
            query("after", "integer", "Only events with a higher id."),
            query("since", "string", "RFC 3339 time; only events at or after it."),
            query("until", "string", "RFC 3339 time; only events before it."),
            query("action", "string", "Only events with this action."),
            query("user_id", "string", "Only events of this user."),
            query("route_id", "string", "Only events of this route."),
            query("limit", "integer", "Maximum number of events (default 1000, at most 10000)."),
          ],
          responses: {
            "200": {
              description: "One event per line.",
              content: { "application/jsonl": { schema: reference("AuditEvent") } },
            },
            "400": error("A parameter is invalid."),
            ...accessErrors,
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
