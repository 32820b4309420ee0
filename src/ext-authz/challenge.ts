import type { Route } from "../model/route.ts";
import { bearerChallenge } from "../server/http/bearer-challenge.ts";
import type { Challenge } from "./decision.ts";
import { isLegacyPost, type RequestFacts } from "./request.ts";

/** The path of the MCP endpoint that a challenge names, and the id of the request. */
export interface ChallengePlace {
  readonly path: string;
  readonly requestId: string;
}

/** The URL that a legacy stream's client posts to is not an endpoint: clients would take its metadata for another server's. */
export function challengePath(facts: RequestFacts, route: Route): string {
  return isLegacyPost(facts, route) ? route.prefix : facts.path;
}

/**
 * The 401 of an MCP route.
 *
 * @param options.description follows `Unauthorized: `, for a person; no quotes, no secrets.
 * @param options.tokenSent without a token there is no `error`: clients then start an authorization instead of a refresh.
 */
export function unauthorized(
  route: Route,
  { path, requestId }: ChallengePlace,
  options: { readonly tokenSent: boolean; readonly description: string; readonly scopes?: readonly string[] },
): Challenge {
  const { tokenSent, description, scopes } = options;
  const error = tokenSent ? "invalid_token" : undefined;
  const resource = { route, path };
  const { wwwAuthenticate, body } = bearerChallenge({ resource, error, description, scopes, requestId });
  return { kind: "challenge", wwwAuthenticate, body: JSON.stringify(body), headers: [] };
}

/** The 401 for a caller whose consent at the upstream is missing. @param scopes to request there, if known */
export function consentMissing(route: Route, place: ChallengePlace, scopes: readonly string[]): Challenge {
  const description = "this server needs your consent; authorize again";
  return unauthorized(route, place, { tokenSent: true, description, scopes });
}
