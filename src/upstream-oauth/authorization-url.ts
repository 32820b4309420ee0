import type { AuthorizationServer } from "oauth4webapi";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/**
 * The URL a person's browser is sent to (RFC 6749 section 4.1.1, RFC 7636, RFC 8707).
 *
 * @throws UpstreamOAuthError `metadata_invalid` without an authorization endpoint.
 */
export function authorizationUrl(
  as: AuthorizationServer,
  request: {
    clientId: string;
    redirectUri: string;
    state: string;
    codeChallenge: string;
    scopes: readonly string[];
    resource?: string;
    /** `authorization_url_params`; an empty value leaves a parameter out. */
    extra: Readonly<Record<string, string>>;
  },
): string {
  if (!as.authorization_endpoint) {
    throw new UpstreamOAuthError("metadata_invalid", `${as.issuer} has no authorization endpoint`);
  }
  const url = new URL(as.authorization_endpoint);
  const set = (name: string, value: string | undefined) => {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  };
  set("scope", request.scopes.join(" "));
  set("resource", request.resource);
  // OpenID Connect Core section 11: offline access is granted only with a prompt for consent.
  if (request.scopes.includes("offline_access")) set("prompt", "consent");
  for (const [name, value] of Object.entries(request.extra)) set(name, value);
  // Last, so that nothing replaces them: the routes file is refused where it names one of these.
  set("response_type", "code");
  set("client_id", request.clientId);
  set("redirect_uri", request.redirectUri);
  set("state", request.state);
  set("code_challenge", request.codeChallenge);
  set("code_challenge_method", "S256");
  return url.href;
}
