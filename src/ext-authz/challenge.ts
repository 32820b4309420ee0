import { isFramingHeader } from "../config/header-names.ts";
import type { Route } from "../model/route.ts";
import type { Challenge, Header, Reply } from "./decision.ts";
import { isLegacyPost, type RequestFacts } from "./request.ts";
import { passes } from "./upstream-headers.ts";

const metadataPath = "/.well-known/oauth-protected-resource";

/**
 * The 401 of an MCP route (RFC 6750 section 3, RFC 9728 section 5.1).
 *
 * @param options.description follows `Unauthorized: `, for a person; no quotes, no secrets.
 * @param options.tokenSent without a token there is no `error`: clients then start an authorization instead of a refresh.
 */
export function unauthorized(
  route: Route,
  facts: RequestFacts,
  options: { readonly tokenSent: boolean; readonly description: string; readonly scopes?: readonly string[] },
): Challenge {
  // The URL that a legacy stream's client posts to is not an endpoint: clients would take its metadata for another server's.
  const path = isLegacyPost(facts, route) ? route.prefix : facts.path;
  const resourceMetadata = `${route.origin}${metadataPath}${path === "/" ? "" : path}`;
  const description = `Unauthorized: ${options.description}`;
  const parameters = [`resource_metadata="${resourceMetadata}"`];
  if (options.tokenSent) parameters.push(`error="invalid_token"`, `error_description="${description}"`);
  // RFC 6749 section 3.3: any other character in an upstream's scope would break the header.
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
/** Headers a browser may ask for beyond these, as `mcp-param-*` cannot be listed in advance. */
const maxExtra = 64;
const headerShape = /^[a-z0-9-]{1,74}$/i;

/** CORS of MCP routes: any origin, because cookies do not authenticate here and a token is required. */
export const cors = {
  /** On every response, ours or the upstream's. `wire/encode.ts` appends `Vary`; the others overwrite. */
  answer: [
    ["access-control-allow-origin", "*"],
    ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
    ["vary", "Origin"],
  ] satisfies Header[],

  /** Answers a preflight request before authentication: browsers send it without credentials. */
  preflight({ headers }: RequestFacts, route: Route): Reply {
    const extra = (headers["access-control-request-headers"] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => headerShape.test(name) && mayBeSent(name.toLowerCase(), route))
      .slice(0, maxExtra);
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

/** Whether a header set by a script would reach the upstream unchanged. @param name in lower case */
function mayBeSent(name: string, route: Route): boolean {
  return passes(name, route) && !isFramingHeader(name) && !name.startsWith("x-forwarded-");
}
