import { isFramingHeader } from "../config/header-names.ts";
import type { Route } from "../model/route.ts";
import type { Challenge, Header, Reply } from "./decision.ts";
import { isLegacyPost, type RequestFacts } from "./request.ts";
import { passes } from "./upstream-headers.ts";

const metadataPath = "/.well-known/oauth-protected-resource";

/**
 * The 401 of an MCP route (RFC 6750 section 3, RFC 9728 section 5.1).
 *
 * @param options.description after `Unauthorized: `, for a person; no quotes, no secrets.
 * @param options.tokenSent no `error` without a token, so that clients begin rather than repair.
 */
export function unauthorized(
  route: Route,
  facts: RequestFacts,
  options: { readonly tokenSent: boolean; readonly description: string; readonly scopes?: readonly string[] },
): Challenge {
  // Where a legacy stream has its client post to is no endpoint of its own: clients take metadata of it for another server's.
  const path = isLegacyPost(facts, route) ? route.prefix : facts.path;
  const resourceMetadata = `${route.origin}${metadataPath}${path === "/" ? "" : path}`;
  const description = `Unauthorized: ${options.description}`;
  const parameters = [`resource_metadata="${resourceMetadata}"`];
  if (options.tokenSent) parameters.push(`error="invalid_token"`, `error_description="${description}"`);
  // RFC 6749 section 3.3: whatever else an upstream may have called a scope would break the header.
  const scopes = (options.scopes ?? []).filter((scope) => /^[!#-[\]-~]+$/.test(scope));
  if (scopes.length > 0) parameters.push(`scope="${scopes.join(" ")}"`);
  return {
    kind: "challenge",
    wwwAuthenticate: `Bearer ${parameters.join(", ")}`,
    body: JSON.stringify({
      error: options.tokenSent ? "invalid_token" : "unauthorized",
      error_description: description,
      resource_metadata: resourceMetadata,
      request_id: facts.requestId,
    }),
    headers: [],
  };
}

const requestHeaders =
  "Authorization, Content-Type, Accept, MCP-Protocol-Version, MCP-Session-Id, Last-Event-ID, Mcp-Method, Mcp-Name";
/** Of what a browser asks for beyond these, what would pass: `mcp-param-*` cannot be listed in advance. */
const mostExtra = 64;
const headerShape = /^[a-z0-9-]{1,74}$/i;

/** CORS of MCP routes: any origin, because no cookie counts here and a token must be shown. */
export const cors = {
  /** On every answer, ours or the upstream's. `Vary` is appended by `response.ts`, the others overwrite. */
  answer: [
    ["access-control-allow-origin", "*"],
    ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
    ["vary", "Origin"],
  ] satisfies Header[],

  /** Answers a preflight before authentication: browsers send it without credentials. */
  preflight({ headers }: RequestFacts, route: Route): Reply {
    const extra = (headers["access-control-request-headers"] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => headerShape.test(name) && mayBeSent(name.toLowerCase(), route))
      .slice(0, mostExtra);
    return {
      kind: "reply",
      status: 204,
      headers: [
        ["access-control-allow-origin", "*"],
        ["access-control-allow-methods", "GET, POST, DELETE, OPTIONS"],
        ["access-control-allow-headers", [requestHeaders, ...extra].join(", ")],
        ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
        ["access-control-max-age", "7200"],
        ["vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"],
      ],
      body: "",
    };
  },
};

/** Whether a script's header would reach the upstream as it was sent. @param name in lower case */
function mayBeSent(name: string, route: Route): boolean {
  return passes(name, route) && !isFramingHeader(name) && !name.startsWith("x-forwarded-");
}
