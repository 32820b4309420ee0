import type { Route } from "../../model/route.ts";

/** A 401 of the gateway as a resource server. */
export interface BearerChallenge {
  /** Value of `WWW-Authenticate`. */
  readonly wwwAuthenticate: string;
  /** Error, description, URL of the metadata and request id, to be sent as JSON. */
  readonly body: object;
}

/**
 * Builds a 401 (RFC 6750 section 3, RFC 9728 section 5.1).
 *
 * @param given.resource the MCP endpoint that the client requested, whose metadata names our authorization server; absent: the client
 * has to find it another way
 * @param given.error absent: the header has no error, and clients start an authorization instead of a refresh
 * @param given.code in the body, if it differs from `error`
 * @param given.description follows `Unauthorized: `, for a person; no quotes, no secrets
 * @param given.scopes of the upstream, as it named them
 */
export function bearerChallenge(given: {
  readonly resource?: { readonly route: Pick<Route, "origin">; readonly path: string };
  readonly error?: "invalid_token";
  readonly code?: "unauthorized";
  readonly description: string;
  readonly scopes?: readonly string[];
  readonly requestId: string;
}): BearerChallenge {
  const { resource, error, requestId } = given;
  const description = `Unauthorized: ${given.description}`;
  const metadata = resource && resourceMetadataUrl(resource.route, resource.path);
  // RFC 6749 section 3.3: any other character in an upstream's scope would break the header.
  const scopes = (given.scopes ?? []).filter((scope) => /^[!#-[\]-~]+$/.test(scope));
  const parameters = [
    ...(metadata === undefined ? [] : [`resource_metadata="${metadata}"`]),
    ...(error === undefined ? [] : [`error="${error}"`, `error_description="${description}"`]),
    ...(scopes.length > 0 ? [`scope="${scopes.join(" ")}"`] : []),
  ];
  return {
    wwwAuthenticate: `Bearer ${parameters.join(", ")}`,
    body: {
      error: given.code ?? error ?? "unauthorized",
      error_description: description,
      resource_metadata: metadata,
      request_id: requestId,
    },
  };
}

/** URL of the metadata of a protected resource (RFC 9728 section 3.1). @param path of the resource, without query */
function resourceMetadataUrl({ origin }: Pick<Route, "origin">, path: string): string {
  return `${origin}/.well-known/oauth-protected-resource${path === "/" ? "" : path}`;
}
