import type { AuthorizationServer } from "oauth4webapi";
import type { Standing } from "../store/upstream-tokens.ts";
import type { UpstreamClient } from "./client-authentication.ts";
import { UpstreamOAuthError } from "./errors.ts";

/** What a consent under way must remember: kind `upstream` of the store's pending authorizations, encrypted there. */
export interface PendingConsent {
  readonly routeId: string;
  readonly upstream: string;
  /** Where the client that began has its endpoint (`Route.askedPath`). */
  readonly askedPath?: string;
  readonly userId: string;
  /** Host of the callback: it takes place where the browser left. */
  readonly host: string;
  readonly redirectUri: string;
  readonly codeVerifier: string;
  readonly issuer: string;
  /** As in `UpstreamServer`. */
  readonly named?: string;
  readonly issuerKnown: boolean;
  /** RFC 9207: the server promises `iss`, so an answer without it is not this server's. */
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
  /** As in `ConsentNotice`: what the person has agreed to be sent to. Absent in flows of earlier versions. */
  readonly server?: string;
  /** As this began: where the person has disconnected or gone since, it stores nothing. Absent in flows of earlier versions. */
  readonly standing?: Standing;
  /** Whether it is the second try, with a new client of ours. Absent in flows of earlier versions. */
  readonly again?: boolean;
}

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
