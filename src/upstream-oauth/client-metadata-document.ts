import type { RouteTable } from "../config/route-table.ts";

/** Places on a route's host that an upstream's authorization server gets to know. */
export interface ClientPlaces {
  /** URL of our Client ID Metadata Document, which is our client id there. */
  readonly clientId: string;
  readonly redirectUri: string;
}

/** @param host as in `Route.host`. */
export function clientPlaces(table: RouteTable, host: string): ClientPlaces {
  const base = `https://${host}${table.config.paths.prefix}/mcp/client`;
  const clientId = table.config.upstreamOAuth.clientIdMetadataUrl ?? `${base}/metadata.json`;
  return { clientId, redirectUri: `${base}/oauth/callback` };
}

/**
 * Our Client ID Metadata Document on one host (draft-ietf-oauth-client-id-metadata-document): only where a route of that
 * host is auto-discovered, since nobody else has a use for it.
 */
export function clientMetadataDocument(table: RouteTable, host: string): Record<string, unknown> | undefined {
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
  const { clientId, redirectUri } = clientPlaces(table, host);
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
    token_endpoint_auth_method: "none",
    application_type: "web",
  };
}
