import {
  type AuthorizationServer,
  allowInsecureRequests,
  customFetch,
  dynamicClientRegistrationRequest,
  processDynamicClientRegistrationResponse,
} from "oauth4webapi";
import type { ClientRegistration } from "../store/store.ts";
import { chooseAuthMethod } from "./choose-auth-method.ts";
import { byKey, type ClientPlaces } from "./client-metadata-document.ts";
import { readJsonObject } from "./read-json-object.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";

/**
 * Registers us at an authorization server (RFC 7591).
 *
 * @throws UpstreamOAuthError `registration_refused`, `registration_unavailable`, `rate_limited`, `server_error`, `unreachable`.
 */
export async function registerClient(request: {
  fetch: typeof globalThis.fetch;
  as: AuthorizationServer;
  places: Pick<ClientPlaces, "redirectUri" | "jwksUri">;
  clientName: string;
  /** Whether a URL is on a host of ours. */
  isOurs: (url: URL) => boolean;
}): Promise<ClientRegistration> {
  const { as } = request;
  const { redirectUri, jwksUri } = request.places;
  const { host } = new URL(as.registration_endpoint ?? as.issuer);
  const able = ["client_secret_basic", "client_secret_post", "none", "private_key_jwt"] as const;
  const method = chooseAuthMethod(as, able);
  if (!method) {
    throw new UpstreamOAuthError(
      "registration_unavailable",
      `${host} registers only clients with authentication methods that registration cannot set up: register by hand and set upstream_oauth2.client_id`,
      { detail: String(as.token_endpoint_auth_methods_supported) },
    );
  }
  try {
    const response = await dynamicClientRegistrationRequest(
      as,
      {
        client_name: request.clientName,
        client_uri: new URL(redirectUri).origin,
        redirect_uris: [redirectUri],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        ...(method === "private_key_jwt" ? byKey(jwksUri) : { token_endpoint_auth_method: method }),
        application_type: "web",
      },
      { [customFetch]: request.fetch, [allowInsecureRequests]: true },
    );
    const client = await processDynamicClientRegistrationResponse(await lenient(response, host));
    checkRegistered(client, request, host);
    const secretExpires = Number(client.client_secret_expires_at ?? 0);
    return {
      issuer: as.issuer,
      redirectUri,
      clientId: client.client_id,
      clientSecret: typeof client.client_secret === "string" ? client.client_secret : undefined,
      secretExpiresAt: secretExpires > 0 ? new Date(secretExpires * 1000) : undefined,
      authMethod:
        typeof client.token_endpoint_auth_method === "string" ? client.token_endpoint_auth_method : method,
      metadata: { registeredAt: Date.now() },
    };
  } catch (error) {
    throw UpstreamOAuthError.from(error, `registration at ${host} failed`);
  }
}

/** What was registered must be a client of that server's with our one redirect URI (RFC 7591 section 3.2.1), not somebody else's. */
function checkRegistered(
  client: { readonly client_id: string; readonly redirect_uris?: unknown },
  request: { readonly places: Pick<ClientPlaces, "redirectUri">; readonly isOurs: (url: URL) => boolean },
  host: string,
): void {
  const refuse = (what: string) => {
    throw new UpstreamOAuthError("registration_refused", `the registration at ${host} ${what}`);
  };
  const url = URL.parse(client.client_id);
  if (url && request.isOurs(url)) refuse("gives us the client id of another client of ours");
  const uris = client.redirect_uris;
  if (Array.isArray(uris) && (uris.length !== 1 || uris[0] !== request.places.redirectUri))
    refuse("is for other redirect URIs than ours");
}

/** Refuses errors; mends two common slips: status 200, and a secret without `client_secret_expires_at`. */
async function lenient(response: Response, host: string): Promise<Response> {
  const text = await response.text();
  if (response.status === 429) {
    throw new UpstreamOAuthError("rate_limited", `${host} registers no more clients for now`, {
      detail: text,
    });
  }
  if (response.status >= 500) {
    throw new UpstreamOAuthError("server_error", `registration at ${host} failed (${response.status})`, {
      detail: text,
    });
  }
  if (!response.ok) {
    throw new UpstreamOAuthError(
      "registration_refused",
      `${host} refused to register us (${response.status}): register by hand and set upstream_oauth2.client_id`,
      { detail: text },
    );
  }
  const json = readJsonObject(text);
  // An empty body is left to the reader, who names the fault.
  const body = json ? JSON.stringify({ client_secret_expires_at: 0, ...json }) : "";
  return new Response(body, { status: 201, headers: { "content-type": "application/json" } });
}
