import type { Context } from "koa";
import type { Config } from "../config/config.ts";
import { normalizeHost, normalPath, pathFault } from "../config/paths.ts";
import { unusableMessages, unusableRetrySeconds } from "../config/reserved-routes.ts";
import { onlyRouteOf } from "../config/resources.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { requestId } from "../server/http/request.ts";

const clientAuthMethods = ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
const assertionAlgorithms = [
  "ES256",
  "ES384",
  "ES512",
  "PS256",
  "PS384",
  "PS512",
  "RS256",
  "RS384",
  "RS512",
  "EdDSA",
];

/**
 * The authorization server metadata (RFC 8414, OpenID Connect Discovery 1.0). `routeOrigin` is set on a route's host, for clients of
 * the 2025-03-26 revision: the authorization endpoint there determines the resource.
 */
export function authorizationServerMetadata(config: Config, routeOrigin?: string): Record<string, unknown> {
  const { issuer, paths, authorizationServer } = config;
  return {
    issuer,
    authorization_endpoint: routeOrigin
      ? `${routeOrigin}${paths.prefix}/mcp/authorize`
      : `${issuer}/oauth/authorize`,
    token_endpoint: `${issuer}/oauth/token`,
    ...(authorizationServer.dynamicClientRegistration && {
      registration_endpoint: `${issuer}/oauth/register`,
    }),
    revocation_endpoint: `${issuer}/oauth/revoke`,
    introspection_endpoint: `${issuer}/oauth/introspect`,
    jwks_uri: `${issuer}/oauth/jwks`,
    scopes_supported: ["mcp"],
    response_types_supported: ["code"],
    response_modes_supported: ["query"],
    grant_types_supported: ["authorization_code", "refresh_token"],
    code_challenge_methods_supported: ["S256"],
    token_endpoint_auth_methods_supported: clientAuthMethods,
    token_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    revocation_endpoint_auth_methods_supported: clientAuthMethods,
    revocation_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    introspection_endpoint_auth_methods_supported: clientAuthMethods,
    introspection_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
    authorization_response_iss_parameter_supported: true,
    ...(authorizationServer.clientIdMetadataDocument && { client_id_metadata_document_supported: true }),
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["ES256"],
  };
}

const wellKnown = "/.well-known/oauth-protected-resource";

/**
 * Protected-resource metadata (RFC 9728) of the route that serves the path after the well-known prefix. `resource` is the requested
 * URL, because some clients compare exactly (section 3.3). Without a path, the document describes the host's only MCP server, at any
 * path: some clients request no other document.
 */
export function protectedResourceMetadata(ctx: Context, routes: CurrentRoutes): void {
  const table = routes();
  const asked = ctx.path.slice(wellKnown.length);
  const path = asked === "" ? "" : normalPath(asked);
  const fault = asked === "" ? undefined : pathFault(asked);
  if (fault !== undefined) {
    ctx.status = 400;
    ctx.body = { error: "invalid_request", error_description: fault, request_id: requestId(ctx.req) };
    return;
  }
  const routePath = path === "" ? "/" : path;
  const reserved = table.reservedAt(ctx.host, routePath);
  if (reserved?.enabled) {
    ctx.status = 503;
    ctx.set("retry-after", String(unusableRetrySeconds));
    ctx.body = {
      error: "temporarily_unavailable",
      error_description: unusableMessages[reserved.reason],
      request_id: requestId(ctx.req),
    };
    return;
  }
  const found = table.find(ctx.host, routePath);
  const only = found || routePath !== "/" ? undefined : onlyRouteOf(table, normalizeHost(ctx.host) ?? "");
  const route = found ?? only;
  if (route?.mcp.kind !== "server" || !route.enabled) {
    ctx.status = 404;
    const error_description = `no MCP server at ${ctx.host}${path || "/"}`;
    ctx.body = { error: "not_found", error_description, request_id: requestId(ctx.req) };
    return;
  }
  ctx.set("cache-control", "public, max-age=300");
  ctx.body = {
    resource: only?.resource ?? route.origin + path,
    authorization_servers: [table.config.issuer],
    scopes_supported: ["mcp"],
    bearer_methods_supported: ["header"],
    resource_name: route.name,
  };
}
