import type { AuthorizationServer } from "oauth4webapi";
import type { CurrentRoutes } from "../config/route-table.ts";
import { callbackHost, redirectUriByHand } from "../config/upstream-callback.ts";
import {
  type ClientAuthMethod,
  type ConsentAuth,
  consentAuth,
  nonInteractiveAuth,
  type Route,
} from "../model/route.ts";
import type { ClientRegistration } from "../store/client-registrations.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { SingleFlight } from "../util/single-flight.ts";
import {
  type AuthMethods,
  type ClientKeys,
  configuredClient,
  type UpstreamClient,
} from "./client-authentication.ts";
import {
  type ClientPlaces,
  clientMetadataDocument,
  clientPlaces,
  documentClientId,
  documentKind,
  isPublicHost,
  mayUseDocument,
  publishedPlaces,
} from "./client-metadata.ts";
import { notesOf, type RegisteredScopes, registerClient, renewRegistration } from "./client-registration.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { keepToIssuer } from "./issuers.ts";
import { createRegistrationTrial, type RegistrationTrial } from "./registration-trial.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { credentialOwner, type UpstreamServer } from "./server-metadata.ts";
import { allowedScopes } from "./www-authenticate.ts";

/** A registration that another one is to take the place of. */
export interface UnfitClient {
  readonly clientId: string;
  /** Unix ms: the server may answer with the same client id. */
  readonly registeredAt?: number;
  /** For scopes that nobody but one person's calls demand. */
  readonly demanded?: boolean;
}

/** Who we are at which server. */
export interface Clients {
  /**
   * The client a new consent uses (configured, else our document, else registered), and the callback that is its alone.
   *
   * @param asked the scopes that will be asked for; a registration has those besides that the server lists and the operator allows
   * @param unfit a registration that gives way to a new one once the server has made that, and stays where it does not
   * @throws UpstreamOAuthError
   */
  forConsent(
    route: Route,
    auth: ConsentAuth,
    server: UpstreamServer,
    asked: readonly string[],
    unfit?: UnfitClient,
  ): Promise<{ client: UpstreamClient; redirectUri: string }>;
  /** The client that a stored token, or a consent under way, belongs to; undefined when its credentials are gone. */
  known(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
  ): Promise<UpstreamClient | undefined>;
  /**
   * Whether this client is ours and the server no longer knows it. Not where the server has refused it in no words of OAuth, which may be
   * about what was asked for, and its secret has not ended.
   */
  isGone(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
    refusal: Pick<UpstreamOAuthError, "error">,
  ): Promise<boolean>;
  /** Forgets it here, too, where it `isGone`. @returns what `isGone` does */
  forget(...gone: Parameters<Clients["isGone"]>): Promise<boolean>;
  /**
   * The server gives a registered client no more scopes than it has registered: whether one that has registered less than `scopes` may be
   * replaced, which is once a day at most for scopes that the operator has not set.
   *
   * @returns what is registered, and not enough, or is enough since another person was refused; undefined where another registration
   * would ask for nothing more, or it is too soon for one
   */
  outgrown(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
    scopes: readonly string[],
  ): Promise<{ readonly registered: readonly string[]; readonly unfit?: UnfitClient } | undefined>;
  doubt: RegistrationTrial["doubt"];
}

/** A renewal that failed is not tried again for so long, ms. */
const renewalRestMs = 60_000;
/** What one person's calls demand does not replace a registration, which is for all people, more often than this, ms. */
const outgrownRestMs = 86_400_000;

export function createClients(deps: {
  routes: CurrentRoutes;
  store: Store;
  routeFetch: RouteFetch;
  keys: ClientKeys;
  authMethods: AuthMethods;
  logger: Pick<Logger, "warn" | "info">;
}): Clients {
  const { store, routeFetch, authMethods, logger } = deps;
  const ownKey = () => deps.keys.signer("upstream_client");
  /** Registrations that somebody's demand has replaced, by issuer and callback. */
  const outgrown = boundedCache<string, true>(10_000, { ttl: outgrownRestMs });

  const placeOf = (issuer: string, redirectUri: string) => `${issuer} ${redirectUri}`;

  const renewOnce = new SingleFlight<ClientRegistration | undefined>({
    failureMs: renewalRestMs,
    failures: 1000,
  });
  const trial = createRegistrationTrial({ routeFetch, authMethods, clientOf: fromRegistration });
  const isOurs = (url: URL) => deps.routes().hasHost(url.host);

  async function registered(
    route: Route,
    as: AuthorizationServer,
    places: ClientPlaces,
    {
      scopes,
      authMethod,
      unfit,
    }: {
      readonly scopes: RegisteredScopes;
      readonly authMethod?: ClientAuthMethod;
      readonly unfit?: UnfitClient;
    },
  ): Promise<UpstreamClient> {
    const { redirectUri } = places;
    const { clientName } = deps.routes().config.upstreamOAuth;
    const request = { fetch: routeFetch.fetchFor(route), as, places, isOurs, clientName, scopes, authMethod };
    const register = async () => {
      const first = await registerClient(request);
      const made = hasEnded(first) ? await registerClient(request) : first;
      const { issuer, secretExpiresAt } = made;
      if (secretExpiresAt !== undefined) announceEnd(route, made);
      if (!hasEnded(made)) return made;
      // Twice over: what it says of the secret's end is wrong, and the secret is tried.
      logger.warn(
        { issuer, route: route.id, secretExpiresAt },
        "an authorization server registers clients with secrets that have already expired",
      );
      return { ...made, secretExpiresAt: undefined };
    };
    const before = await store.clientRegistrations.find(as.issuer, redirectUri, true);
    if (before && isDue(before)) await renewed(route, before);
    // The old one stays until then: it serves whoever is connected, also where the server makes no other now.
    const getOr = (insteadOf?: UnfitClient) =>
      store.clientRegistrations.getOrRegister(as.issuer, redirectUri, register, insteadOf);
    const found = await getOr(unfit);
    if (unfit?.demanded) outgrown.set(placeOf(as.issuer, redirectUri), true);
    const spent = isSpent(found);
    if (!spent && (await trial.isStillKnown(route, as, found))) return fromRegistration(found);
    const made = await getOr(fromRegistration(found));
    if (!spent) await trial.noteReplacement(route, as, made);
    return fromRegistration(made);
  }

  function announceEnd(route: Route, registration: ClientRegistration): void {
    const { issuer, clientId, secretExpiresAt } = registration;
    const about = { issuer, route: route.id, clientId, secretExpiresAt };
    if (notesOf(registration).management)
      logger.info(
        about,
        "the secret of a client registration expires, and is renewed before that (RFC 7592)",
      );
    else
      logger.warn(
        about,
        "the secret of a client registration expires, and the server offers no renewal (RFC 7592): users who are connected then must connect again",
      );
  }

  /** The registration with a new secret; as it was where that cannot be had now. Once at a time over all replicas. */
  async function renewed(route: Route, found: ClientRegistration): Promise<ClientRegistration> {
    const { issuer, redirectUri, clientId } = found;
    const places = { redirectUri, jwksUri: "" };
    const renew = async (current: ClientRegistration) => {
      const now = await renewRegistration(current, { fetch: routeFetch.fetchFor(route), places, isOurs });
      announceEnd(route, now);
      return now;
    };
    try {
      const now = await renewOnce.run(placeOf(issuer, redirectUri), () =>
        store.clientRegistrations.renew(issuer, redirectUri, clientId, renew),
      );
      return now ?? (await store.clientRegistrations.find(issuer, redirectUri, true)) ?? found;
    } catch (thrown) {
      const error = UpstreamOAuthError.from(thrown, "renewing the registration");
      const { code, detail } = error;
      logger.warn({ issuer, route: route.id, clientId, reason: code, detail }, error.message);
      return found;
    }
  }

  /** In good time while the old secret still works, which nobody waits for; at once when it has ended. */
  async function kept(route: Route, found: ClientRegistration): Promise<ClientRegistration> {
    if (!isDue(found)) return found;
    const renewal = renewed(route, found);
    return hasEnded(found) ? renewal : found;
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
    async forConsent(route, auth, server, asked, unfit) {
      if (auth.clientId) {
        const { clientId, authorizationServerUrl } = auth;
        if (!auth.endpoint) await keepToIssuer(store, route, { clientId, authorizationServerUrl }, server);
        const client = configured(auth, auth.clientId, server.hasMetadata ? server.as : undefined);
        return { client, redirectUri: redirectUriByHand(deps.routes().config, route) };
      }
      const table = deps.routes();
      const places = clientPlaces(table, route, credentialOwner(server));
      const bySecret = auth.authMethod?.startsWith("client_secret_") ?? false;
      if (!bySecret && (await usesDocument(route, server.as))) {
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
        const scopes = { asked, supported: allowedScopes(auth, server.as.scopes_supported ?? []) };
        const { authMethod } = auth;
        const client = await registered(route, server.as, places, { scopes, authMethod, unfit });
        return { client, redirectUri: places.redirectUri };
      }
      throw new UpstreamOAuthError(
        "registration_unavailable",
        `${new URL(server.as.issuer).host} does not support dynamic client registration: register ${redirectUriByHand(table.config, route)} there as redirect URI, and set upstream_oauth2.client_id and client_secret on route ${route.id}`,
      );
    },
    async known(route, { issuer, clientId, redirectUri }) {
      const consent = consentAuth(route);
      if (consent?.clientId === clientId) return configured(consent, clientId);
      const auth = nonInteractiveAuth(route);
      if (auth) return auth.clientId === clientId ? configuredClient(auth, { ownKey }) : undefined;
      const kind = documentKind(deps.routes(), route, { clientId, redirectUri });
      if (kind)
        return documentClient(clientId, { confidentialClientId: kind === "public" ? undefined : clientId });
      const found = await store.clientRegistrations.find(issuer, redirectUri, true);
      return found?.clientId === clientId ? fromRegistration(await kept(route, found)) : undefined;
    },
    isGone,
    async forget(route, client, refusal) {
      const gone = await isGone(route, client, refusal);
      if (gone) await store.clientRegistrations.delete(client.issuer, client.redirectUri, client.clientId);
      return gone;
    },
    async outgrown(route, { issuer, clientId, redirectUri }, scopes) {
      const found = await store.clientRegistrations.find(issuer, redirectUri, true);
      const registered = (found && notesOf(found).scope?.split(" ")) ?? [];
      const lacking = scopes.filter((scope) => !registered.includes(scope));
      if (found?.clientId !== clientId) return found && lacking.length > 0 ? undefined : { registered };
      if (lacking.length === 0) return undefined;
      const operators = consentAuth(route)?.scopes ?? [];
      // One person's demand, and their browser says that it was refused: no more than so often at the others' expense.
      const demanded = !lacking.some((scope) => operators.includes(scope));
      if (demanded && outgrown.has(placeOf(issuer, redirectUri))) return undefined;
      return { registered, unfit: { clientId, registeredAt: notesOf(found).registeredAt, demanded } };
    },
    doubt: trial.doubt,
  };

  async function isGone(
    ...[route, { issuer, clientId, redirectUri }, refusal]: Parameters<Clients["isGone"]>
  ): Promise<boolean> {
    const table = deps.routes();
    // The document from before there was one per server is gone where the host has several routes: so is that client.
    const kind = documentKind(table, route, { clientId, redirectUri });
    if (kind) {
      const isOld = redirectUri.endsWith("/callback");
      return isOld && !clientMetadataDocument(table, route.host);
    }
    const found = await store.clientRegistrations.find(issuer, redirectUri, true);
    if (found?.clientId !== clientId) return false;
    // One registration is for all people of a route: what one of them brings must not end it.
    return refusal.error !== undefined || hasEnded(found);
  }

  function documentClient(
    clientId: string,
    { confidentialClientId }: Pick<ClientPlaces, "confidentialClientId"> = {},
  ): UpstreamClient {
    const confidential = clientId === confidentialClientId;
    return { clientId, authMethod: confidential ? "private_key_jwt" : "none", source: "document", ownKey };
  }

  function configured(auth: ConsentAuth, clientId: string, as?: AuthorizationServer): UpstreamClient {
    // Explicit endpoints name no issuer.
    const audience = auth.endpoint?.tokenUrl;
    return configuredClient({ ...auth, clientId }, { as, audience, ownKey });
  }

  function fromRegistration(found: ClientRegistration): UpstreamClient {
    const { issuer, redirectUri, clientId, clientSecret, authMethod } = found;
    const known: readonly string[] = ["client_secret_basic", "client_secret_post", "none"];
    const method = known.includes(authMethod) ? (authMethod as ClientAuthMethod) : "auto";
    const withoutSecret = authMethod === "private_key_jwt" ? authMethod : "none";
    return {
      clientId,
      clientSecret,
      authMethod: clientSecret ? method : withoutSecret,
      keepAuthMethod: async (authMethod) => {
        await store.clientRegistrations.update(issuer, redirectUri, clientId, (now) => ({
          ...now,
          authMethod,
        }));
      },
      registeredAt: notesOf(found).registeredAt,
      source: "registered",
      ownKey,
    };
  }
}

function isSpent(found: ClientRegistration): boolean {
  return found.secretExpiresAt !== undefined && found.secretExpiresAt.getTime() < Date.now() + 60_000;
}
function hasEnded({ secretExpiresAt }: ClientRegistration): boolean {
  return secretExpiresAt !== undefined && secretExpiresAt.getTime() <= Date.now();
}

/** Whether the server can renew a secret that ends soon: within a quarter of its life, or a minute. */
function isDue(found: ClientRegistration): boolean {
  const { registeredAt, management } = notesOf(found);
  if (found.secretExpiresAt === undefined || !management) return false;
  const end = found.secretExpiresAt.getTime();
  return end - Date.now() < Math.max(60_000, (end - (registeredAt ?? end)) / 4);
}
