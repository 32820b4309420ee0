import type { Route } from "../config/route.ts";
import type { Challenge } from "./decision.ts";
import { isLegacyPost } from "./legacy-transport.ts";
import type { RequestFacts } from "./request-facts.ts";

const metadataPath = "/.well-known/oauth-protected-resource";

/**
 * The 401 of an MCP route (F2.5, RFC 6750 section 3, RFC 9728 section 5.1).
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
