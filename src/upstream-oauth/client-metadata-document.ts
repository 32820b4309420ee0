import type { AuthorizationServer } from "oauth4webapi";
import type { RouteTable } from "../config/route-table.ts";
import { chooseAuthMethod } from "./choose-auth-method.ts";
import { clientKeyAlg } from "./client-key.ts";

/** Places on a route's host that an upstream's authorization server gets to know. */
export interface ClientPlaces {
  /** URL of our Client ID Metadata Document, which is our client id there. */
  readonly clientId: string;
  /** The same for servers that want a confidential client (RFC 6749 section 2.1); none where the document is published elsewhere. */
  readonly confidentialClientId?: string;
  readonly redirectUri: string;
  /** Public halves of our client keys. */
  readonly jwksUri: string;
}

/** @param host as in `Route.host`. */
export function clientPlaces(table: RouteTable, host: string): ClientPlaces {
  const base = `https://${host}${table.config.paths.prefix}/mcp/client`;
  const elsewhere = table.config.upstreamOAuth.clientIdMetadataUrl;
  return {
    clientId: elsewhere ?? `${base}/metadata.json`,
    ...(elsewhere === undefined && { confidentialClientId: `${base}/confidential.json` }),
    redirectUri: `${base}/oauth/callback`,
    jwksUri: `${base}/jwks.json`,
  };
}

/** Which of our documents a server gets to know: the one without a key, unless it wants one. A secret could not be published. */
export function documentClientId(places: ClientPlaces, as: AuthorizationServer): string {
  const method = chooseAuthMethod(as, ["none", "private_key_jwt"]);
  return (method === "private_key_jwt" && places.confidentialClientId) || places.clientId;
}

/**
 * Our Client ID Metadata Document on one host (draft-ietf-oauth-client-id-metadata-document): only where a route of that
 * host is auto-discovered, since nobody else has a use for it.
 *
 * @param confidential the one whose client signs assertions (`private_key_jwt`)
 */
export function clientMetadataDocument(
  table: RouteTable,
  host: string,
  confidential = false,
): Record<string, unknown> | undefined {
  const { config } = table;
  const hosts = new Set(
    config.routes
      .filter(
        ({ mcp, enabled }) =>
          enabled &&
          mcp.kind === "server" &&
          mcp.auth.type === "oauth" &&
          !mcp.auth.endpoint &&
          !mcp.auth.clientId,
      )
      .map((route) => route.host),
  );
  const { clientIdMetadataDocument, clientIdMetadataUrl } = config.upstreamOAuth;
  if (!hosts.has(host) || clientIdMetadataDocument === "never") return undefined;
  const { clientId: publicClientId, confidentialClientId, redirectUri, jwksUri } = clientPlaces(table, host);
  const clientId = confidential ? confidentialClientId : publicClientId;
  if (clientId === undefined) return undefined;
  // Published elsewhere, one document serves all hosts.
  const redirectUris =
    clientIdMetadataUrl === undefined
      ? [redirectUri]
      : [...hosts].map((one) => clientPlaces(table, one).redirectUri);
  return {
    client_id: clientId,
    client_name: config.upstreamOAuth.clientName,
    client_uri: `https://${host}`,
    redirect_uris: redirectUris,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    ...(confidential ? byKey(jwksUri) : { token_endpoint_auth_method: "none" }),
    application_type: "web",
  };
}

/** Client metadata (RFC 7591 section 2) of one that signs assertions with the keys at `jwksUri`. */
export function byKey(jwksUri: string) {
  return {
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: clientKeyAlg,
    jwks_uri: jwksUri,
  } as const;
}
