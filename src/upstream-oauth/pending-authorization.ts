import type { AuthorizationServer } from "oauth4webapi";
import type { Standing } from "../store/upstream-tokens.ts";
import type { UpstreamClient } from "./client-authentication.ts";
import { UpstreamOAuthError } from "./errors.ts";

/** State of a pending authorization: kind `upstream` in the store, encrypted there. */
export interface PendingConsent {
  readonly routeId: string;
  readonly upstream: string;
  /** Endpoint of the client that started it (`Route.askedPath`). */
  readonly askedPath?: string;
  readonly userId: string;
  /** Host of the callback, where the browser started. */
  readonly host: string;
  readonly redirectUri: string;
  readonly codeVerifier: string;
  readonly issuer: string;
  /** As in `UpstreamServer`. */
  readonly named?: string;
  readonly issuerKnown: boolean;
  /** RFC 9207: the server advertises `iss`, so a response without it is not from this server. */
  readonly issRequired: boolean;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint?: string;
  readonly clientId: string;
  readonly authMethod: UpstreamClient["authMethod"];
  readonly clientSource: UpstreamClient["source"];
  readonly scopes: readonly string[];
  readonly resource?: string;
  readonly dpop: boolean;
  readonly returnTo: string;
  readonly popup: boolean;
  /** As in `ConsentNotice`: the server that the user agreed to. Absent in flows of earlier versions. */
  readonly server?: string;
  /** State at the start: if the user has disconnected or been removed since, nothing is stored. Absent in flows of earlier versions. */
  readonly standing?: Standing;
  /** Whether this is the second attempt, with a new client. Absent in flows of earlier versions. */
  readonly again?: boolean;
}

/**
 * The authorization URL that the browser is redirected to (RFC 6749 section 4.1.1, RFC 7636, RFC 8707).
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
    /** `authorization_url_params`; an empty value removes a parameter. */
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
  // Last, so that nothing replaces them; a routes file that sets one of these is rejected.
  set("response_type", "code");
  set("client_id", request.clientId);
  set("redirect_uri", request.redirectUri);
  set("state", request.state);
  set("code_challenge", request.codeChallenge);
  set("code_challenge_method", "S256");
  return url.href;
}
