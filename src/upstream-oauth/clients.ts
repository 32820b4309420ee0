import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { AuthorizationServer } from "oauth4webapi";
import type { ClientAuthMethod, UpstreamOAuth as OAuthConfig, Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { callbackHost, redirectUriByHand } from "../config/upstream-callback.ts";
import type { ClientRegistration, Store } from "../store/store.ts";
import type { ClientKeys } from "./client-key.ts";
import {
  type ClientPlaces,
  clientMetadataDocument,
  clientPlaces,
  documentClientId,
  documentKind,
  mayUseDocument,
  publishedPlaces,
} from "./client-metadata-document.ts";
import { configuredClient } from "./configured-client.ts";
import { isPublicAddress } from "./is-public-address.ts";
import { keepToIssuer } from "./keep-to-issuer.ts";
import type { Outward } from "./outward.ts";
import { registerClient } from "./register-client.ts";
import { requestToken } from "./request-token.ts";
import type { UpstreamClient } from "./upstream-client.ts";
import { UpstreamOAuthError } from "./upstream-oauth-error.ts";
import { credentialOwner, type UpstreamServer } from "./upstream-server.ts";

/** Who we are at which server (F4.2). */
export interface Clients {
  /**
   * The client a new consent uses (configured, else our document, else registered), and the callback that is its alone.
   *
   * @throws UpstreamOAuthError
   */
  forConsent(
    route: Route,
    auth: OAuthConfig,
    server: UpstreamServer,
  ): Promise<{ client: UpstreamClient; redirectUri: string }>;
  /** The client that a stored token, or a consent under way, belongs to; undefined when its credentials are gone. */
  known(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
  ): Promise<UpstreamClient | undefined>;
  /** The server no longer knows this client: it is forgotten here, too. True if it is ours and a new one is needed. */
  forget(route: Route, client: { issuer: string; clientId: string; redirectUri: string }): Promise<boolean>;
}

/** A registration older than this is tried before a person is sent on a trip with it, ms. */
const trustedForMs = 3_600_000;

export function createClients(deps: {
  routes: CurrentRoutes;
  store: Store;
  outward: Outward;
  keys: ClientKeys;
}): Clients {
  const { store, outward } = deps;
  const ownKey = () => deps.keys.signer("upstream_client");
  /** Registrations seen to work, by client id. */
  const provenAt = new Map<string, number>();

  async function registered(
    route: Route,
    as: AuthorizationServer,
    places: ClientPlaces,
  ): Promise<UpstreamClient> {
    const { redirectUri } = places;
    const register = () =>
      registerClient({
        fetch: outward.fetchFor(route),
        as,
        places,
        isOurs: (url) => deps.routes().hasHost(url.host),
        clientName: deps.routes().config.upstreamOAuth.clientName,
      });
    const found = await store.clientRegistrations.getOrRegister(as.issuer, redirectUri, register);
    if (!isSpent(found) && (await stillKnown(route, as, found))) return fromRegistration(found);
    await store.clientRegistrations.delete(found.issuer, found.redirectUri, found.clientId);
    return fromRegistration(await store.clientRegistrations.getOrRegister(as.issuer, redirectUri, register));
  }

  /** A server that has forgotten us shows people an error page and tells us nothing: a code that cannot exist finds out. */
  async function stillKnown(
    route: Route,
    as: AuthorizationServer,
    found: ClientRegistration,
  ): Promise<boolean> {
    const seen = Math.max(Number(found.metadata.registeredAt ?? 0), provenAt.get(found.clientId) ?? 0);
    if (Date.now() - seen < trustedForMs || !as.token_endpoint) return true;
    try {
      await requestToken({
        fetch: outward.fetchFor(route),
        issuer: as.issuer,
        tokenEndpoint: as.token_endpoint,
        client: fromRegistration(found),
        grantType: "authorization_code",
        parameters: { code: "0", redirect_uri: found.redirectUri, code_verifier: "0".repeat(43) },
      });
    } catch (error) {
      if (error instanceof UpstreamOAuthError && error.code === "client_refused") return false;
    }
    if (provenAt.size > 1000) provenAt.clear();
    provenAt.set(found.clientId, Date.now());
    return true;
  }

  async function usesDocument(route: Route, as: AuthorizationServer): Promise<boolean> {
    const table = deps.routes();
    const mode = table.config.upstreamOAuth.clientIdMetadataDocument;
    if (mode === "never" || !mayUseDocument(route)) return false;
    if (mode === "always") return true;
    if (as.client_id_metadata_document_supported !== true) return false;
    if (table.config.upstreamOAuth.clientIdMetadataUrl !== undefined) return true;
    return isPublicHost(callbackHost(table.config, route));
  }

  return {
    async forConsent(route, auth, server) {
      if (auth.clientId) {
        const { clientId, authorizationServerUrl } = auth;
        if (!auth.endpoint) await keepToIssuer(store, route, { clientId, authorizationServerUrl }, server);
        const client = configured(auth, auth.clientId, server.hasMetadata ? server.as : undefined);
        return { client, redirectUri: redirectUriByHand(deps.routes().config, route) };
      }
      const table = deps.routes();
      const places = clientPlaces(table, route, credentialOwner(server));
      if (await usesDocument(route, server.as)) {
        const published = table.config.upstreamOAuth.clientIdMetadataUrl;
        if (published === undefined) {
          const client = documentClient(documentClientId(places, server.as), places);
          return { client, redirectUri: places.redirectUri };
        }
        // One client id and one callback for whatever the upstream names: so it may name one only.
        const { authorizationServerUrl } = auth;
        await keepToIssuer(store, route, { clientId: published, authorizationServerUrl }, server);
        const { clientId, redirectUri } = publishedPlaces(table, route, published);
        return { client: documentClient(clientId), redirectUri };
      }
      if (server.as.registration_endpoint) {
        return { client: await registered(route, server.as, places), redirectUri: places.redirectUri };
      }
      throw new UpstreamOAuthError(
        "registration_unavailable",
        `${new URL(server.as.issuer).host} registers no clients by itself: register ${redirectUriByHand(table.config, route)} there as redirect URI, and set upstream_oauth2.client_id and client_secret on route ${route.id}`,
      );
    },
    async known(route, { issuer, clientId, redirectUri }) {
      const auth = route.mcp.kind === "server" ? route.mcp.auth : undefined;
      if (auth?.type === "oauth" && auth.clientId === clientId) return configured(auth, clientId);
      if (auth?.type === "client_credentials" || auth?.type === "token_exchange" || auth?.type === "id_jag")
        return auth.clientId === clientId ? configuredClient(auth, { ownKey }) : undefined;
      const kind = documentKind(deps.routes(), route, { clientId, redirectUri });
      if (kind)
        return documentClient(clientId, { confidentialClientId: kind === "public" ? undefined : clientId });
      const found = await store.clientRegistrations.find(issuer, redirectUri);
      return found?.clientId === clientId ? fromRegistration(found) : undefined;
    },
    async forget(route, { issuer, clientId, redirectUri }) {
      const table = deps.routes();
      // The document from before there was one per server is gone where the host has several routes: so is that client.
      const kind = documentKind(table, route, { clientId, redirectUri });
      if (kind) {
        const isOld = redirectUri.endsWith("/callback");
        return isOld && !clientMetadataDocument(table, route.host);
      }
      const found = await store.clientRegistrations.find(issuer, redirectUri);
      if (found?.clientId !== clientId) return false;
      await store.clientRegistrations.delete(issuer, redirectUri, clientId);
      return true;
    },
  };

  function documentClient(
    clientId: string,
    { confidentialClientId }: Pick<ClientPlaces, "confidentialClientId"> = {},
  ): UpstreamClient {
    const confidential = clientId === confidentialClientId;
    return { clientId, authMethod: confidential ? "private_key_jwt" : "none", source: "document", ownKey };
  }

  function configured(auth: OAuthConfig, clientId: string, as?: AuthorizationServer): UpstreamClient {
    // Explicit endpoints name no issuer.
    const audience = auth.endpoint?.tokenUrl;
    return configuredClient(
      { ...auth, clientId, authMethod: auth.endpoint?.authMethod },
      { as, audience, ownKey },
    );
  }

  function fromRegistration({ clientId, clientSecret, authMethod }: ClientRegistration): UpstreamClient {
    const known: readonly string[] = ["client_secret_basic", "client_secret_post", "none"];
    const method = known.includes(authMethod) ? (authMethod as ClientAuthMethod) : "auto";
    const withoutSecret = authMethod === "private_key_jwt" ? authMethod : "none";
    return {
      clientId,
      clientSecret,
      authMethod: clientSecret ? method : withoutSecret,
      source: "registered",
      ownKey,
    };
  }
}

function isSpent(found: ClientRegistration): boolean {
  return found.secretExpiresAt !== undefined && found.secretExpiresAt.getTime() < Date.now() + 60_000;
}

/** `auto` (F4.2): a server on the internet can fetch our document only when the host's name leads to a public address. */
async function isPublicHost(host: string): Promise<boolean> {
  const { hostname } = new URL(`https://${host}`);
  if (isIP(hostname.replace(/^\[(.*)\]$/, "$1"))) return false;
  const addresses = await lookup(hostname, { all: true }).catch(() => []);
  return addresses.length > 0 && addresses.every(({ address }) => isPublicAddress(address));
}
