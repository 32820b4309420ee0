import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { AuthorizationServer } from "oauth4webapi";
import {
  callbackHost,
  callbackId,
  callbackUri,
  hasOneOAuthRoute,
  isCallbackIdOf,
  originOfHost,
  redirectUriByHand,
  upstreamClientBase,
} from "../config/callback-urls.ts";
import type { RouteTable } from "../config/route-table.ts";
import { isPublicAddress } from "../egress/addresses.ts";
import { consentAuth, type Route } from "../model/route.ts";
import { chooseAuthMethod, clientKeyAlg } from "./client-authentication.ts";

/** For `auto`: a server on the internet can fetch the document only if the host resolves to public addresses. */
export async function isPublicHost(host: string): Promise<boolean> {
  const { hostname } = new URL(`https://${host}`);
  if (isIP(hostname.replace(/^\[(.*)\]$/, "$1"))) return false;
  const addresses = await lookup(hostname, { all: true }).catch(() => []);
  return addresses.length > 0 && addresses.every(({ address }) => isPublicAddress(address));
}

/** This gateway's URLs that an upstream's authorization server uses. */
export interface ClientUrls {
  /** URL of the Client ID Metadata Document, which is also the client id. */
  readonly clientId: string;
  /** The same for servers that require a confidential client (RFC 6749 section 2.1); absent if the document is published elsewhere. */
  readonly confidentialClientId?: string;
  readonly redirectUri: string;
  /** Public client keys. */
  readonly jwksUri: string;
}

/** The URLs for one authorization server of one route, not shared with any other server. */
export function clientUrls(table: RouteTable, route: Route, issuer: string): ClientUrls {
  return clientUrlsAt(table, callbackHost(table.config, route), callbackId(route, issuer));
}

/** The URLs for a document that the operator publishes elsewhere (`client_id_metadata_url`), which lists one callback per route. */
export function publishedClientUrls(table: RouteTable, route: Route, url: string): ClientUrls {
  const { confidentialClientId: _, ...urls } = clientUrlsAt(table, callbackHost(table.config, route));
  return { ...urls, clientId: url, redirectUri: redirectUriByHand(table.config, route) };
}

/** @param id absent: the URLs of versions without a callback per server */
function clientUrlsAt(table: RouteTable, host: string, id?: string): ClientUrls {
  const base = upstreamClientBase(table.config, host);
  const document = id === undefined ? base : `${base}/${id}`;
  return {
    clientId: `${document}/metadata.json`,
    confidentialClientId: `${document}/confidential.json`,
    redirectUri: callbackUri(table.config, host, id),
    jwksUri: `${base}/jwks.json`,
  };
}

/** Which document a client id names, if it matches this redirect URI; undefined: none. */
export function documentKind(
  table: RouteTable,
  route: Route,
  client: { readonly clientId: string; readonly redirectUri: string },
): "public" | "confidential" | undefined {
  const { clientId, redirectUri } = client;
  if (clientId === table.config.upstreamOAuth.clientIdMetadataUrl) return "public";
  const last = redirectUri.slice(redirectUri.lastIndexOf("/") + 1);
  // A connection made before an application shared the host keeps its client.
  for (const host of [callbackHost(table.config, route), route.host]) {
    const urls = clientUrlsAt(table, host, last === "callback" ? undefined : last);
    if (urls.redirectUri !== redirectUri) continue;
    if (clientId === urls.clientId) return "public";
    if (clientId === urls.confidentialClientId) return "confidential";
  }
  return undefined;
}

/** The document to use at a server: the one without a key, unless the server requires a key. */
export function documentClientId(urls: ClientUrls, as: AuthorizationServer): string {
  const method = chooseAuthMethod(as, ["none", "private_key_jwt"]);
  return (method === "private_key_jwt" && urls.confidentialClientId) || urls.clientId;
}

/** Whether a route may use the document: auto-discovered, and without a configured client. */
export function mayUseDocument(route: Route): boolean {
  const auth = consentAuth(route);
  return route.enabled && auth !== undefined && !auth.endpoint && !auth.clientId;
}

/**
 * The Client ID Metadata Document on one host (draft-ietf-oauth-client-id-metadata-document). Served only if a route of that host is
 * auto-discovered.
 *
 * @param wanted.id id of the callback; absent: the document of hosts with one OAuth route, or the one published elsewhere
 * @param wanted.confidential the document whose client signs assertions (`private_key_jwt`)
 */
export function clientMetadataDocument(
  table: RouteTable,
  host: string,
  wanted: { readonly id?: string; readonly confidential?: boolean } = {},
): Record<string, unknown> | undefined {
  const { config } = table;
  const { clientIdMetadataDocument, clientIdMetadataUrl: elsewhere } = config.upstreamOAuth;
  if (clientIdMetadataDocument === "never") return undefined;
  const { id, confidential = false } = wanted;
  const routes = config.routes.filter(mayUseDocument);
  const own = routes.filter((route) => route.host === host);
  if (elsewhere !== undefined) {
    if (own.length === 0 || id !== undefined || confidential) return undefined;
    // Published elsewhere, one document serves all hosts.
    const uris = routes.map((route) => redirectUriByHand(config, route));
    return document(config, host, elsewhere, [...new Set(uris)]);
  }
  const isHere = (one: Route) => one.host === host || callbackHost(config, one) === host;
  const route =
    id === undefined
      ? own.find(() => hasOneOAuthRoute(config, host))
      : routes.find((one) => isCallbackIdOf(one, id) && isHere(one));
  if (!route) return undefined;
  const urls = clientUrlsAt(table, host, id);
  const clientId = confidential ? urls.confidentialClientId : urls.clientId;
  if (clientId === undefined) return undefined;
  // On a host that an application now shares, the application could read the code and redeem it without a secret.
  const moved = callbackHost(config, route) !== host;
  const redirectUri = moved
    ? callbackUri(config, callbackHost(config, route), id ?? callbackId(route))
    : urls.redirectUri;
  return document(config, host, clientId, [redirectUri], confidential ? urls.jwksUri : undefined);
}

function document(
  config: RouteTable["config"],
  host: string,
  clientId: string,
  redirectUris: readonly string[],
  jwksUri?: string,
): Record<string, unknown> {
  return {
    client_id: clientId,
    client_name: config.upstreamOAuth.clientName,
    client_uri: originOfHost(config, host),
    redirect_uris: redirectUris,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    ...(jwksUri === undefined ? { token_endpoint_auth_method: "none" } : byKey(jwksUri)),
    application_type: "web",
  };
}

/** Client metadata (RFC 7591 section 2) of a client that signs assertions with the keys at `jwksUri`. */
export function byKey(jwksUri: string) {
  return {
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: clientKeyAlg,
    jwks_uri: jwksUri,
  } as const;
}
