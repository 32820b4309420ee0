import type { AuthorizationServer } from "oauth4webapi";
import { callbackHost, redirectUriByHand } from "../config/callback-urls.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
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
  type ClientUrls,
  clientMetadataDocument,
  clientUrls,
  documentClientId,
  documentKind,
  isPublicHost,
  mayUseDocument,
  publishedClientUrls,
} from "./client-metadata.ts";
import {
  hasEnded,
  isDue,
  isExpiring,
  notesOf,
  type RegisteredScopes,
  type ReplacedClient,
  registerClient,
  rotateClientSecret,
} from "./client-registration.ts";
import { UpstreamOAuthError } from "./errors.ts";
import { keepToIssuer } from "./issuer-ownership.ts";
import { createRegistrationTrial, type RegistrationTrial } from "./registration-trial.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { credentialOwner, type UpstreamServer } from "./server-metadata.ts";
import { allowedScopes } from "./www-authenticate.ts";

/** This gateway's clients at authorization servers. */
export interface Clients {
  /**
   * The client for a new authorization (configured, else the client document, else registered), and its own callback.
   *
   * @param asked scopes to request; a registration also has those that the server lists and the operator allows
   * @param insteadOf a registration to replace; it stays if the server does not create a new one
   * @throws UpstreamOAuthError
   */
  forConsent(
    route: Route,
    auth: ConsentAuth,
    server: UpstreamServer,
    asked: readonly string[],
    insteadOf?: ReplacedClient,
  ): Promise<{ client: UpstreamClient; redirectUri: string }>;
  /** The client that a stored token or a pending authorization belongs to; undefined if its credentials are gone. */
  known(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
  ): Promise<UpstreamClient | undefined>;
  /**
   * Whether this is a registered client that the server no longer knows. Not if the server rejected it without an OAuth error, which may be
   * about the request, and the secret has not expired.
   */
  isGone(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
    rejection: Pick<UpstreamOAuthError, "error">,
  ): Promise<boolean>;
  /** Deletes the registration if it `isGone`. @returns the result of `isGone` */
  forget(...gone: Parameters<Clients["isGone"]>): Promise<boolean>;
  /**
   * Whether a registration that lacks some of `scopes` may be replaced: at most once a day for scopes that the operator has not set. Servers
   * may limit a client to its registered scopes.
   *
   * @returns the registered scopes, and the registration to replace unless it has already been replaced; undefined if a new registration
   * would not request more, or if it is too soon
   */
  replaceableForScopes(
    route: Route,
    client: { issuer: string; clientId: string; redirectUri: string },
    scopes: readonly string[],
  ): Promise<{ readonly registered: readonly string[]; readonly insteadOf?: ReplacedClient } | undefined>;
  retestRegistration: RegistrationTrial["retestRegistration"];
}

/** Backoff after a failed rotation, ms. */
const rotationBackoffMs = 60_000;
/** Minimum time between replacements of a shared registration for one user's required scopes, ms. */
const scopeReplacementIntervalMs = 86_400_000;

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
  /** Registrations replaced for one user's required scopes, by issuer and callback. */
  const replacedForScopes = boundedCache<string, true>(10_000, { ttl: scopeReplacementIntervalMs });

  const registrationKey = (issuer: string, redirectUri: string) => `${issuer} ${redirectUri}`;

  const rotateOnce = new SingleFlight<ClientRegistration | undefined>({
    failureMs: rotationBackoffMs,
    failures: 1000,
  });
  const trial = createRegistrationTrial({ routeFetch, authMethods, clientOf: fromRegistration });
  const isOurs = (url: URL) => deps.routes().hasHost(url.host);

  async function registered(
    route: Route,
    as: AuthorizationServer,
    urls: ClientUrls,
    {
      scopes,
      authMethod,
      insteadOf,
    }: {
      readonly scopes: RegisteredScopes;
      readonly authMethod?: ClientAuthMethod;
      readonly insteadOf?: ReplacedClient;
    },
  ): Promise<UpstreamClient> {
    const { redirectUri } = urls;
    const { clientName } = deps.routes().config.upstreamOAuth;
    const request = { fetch: routeFetch.fetchFor(route), as, urls, isOurs, clientName, scopes, authMethod };
    const register = async () => {
      const first = await registerClient(request);
      const made = hasEnded(first) ? await registerClient(request) : first;
      const { issuer, secretExpiresAt } = made;
      if (secretExpiresAt !== undefined) logExpiry(route, made);
      if (!hasEnded(made)) return made;
      // Expired twice in a row: the expiry is wrong, so the secret is used anyway.
      logger.warn(
        { issuer, route: route.id, secretExpiresAt },
        "an authorization server registers clients with secrets that have already expired",
      );
      return { ...made, secretExpiresAt: undefined };
    };
    const before = await store.clientRegistrations.find(as.issuer, redirectUri, true);
    if (before && isDue(before)) await withNewSecret(route, before);
    // The old registration stays until then: connected users need it, even if the server creates no new one.
    const getOr = (replaced?: ReplacedClient) =>
      store.clientRegistrations.getOrRegister(as.issuer, redirectUri, register, replaced);
    const found = await getOr(insteadOf);
    if (insteadOf?.stepUp) replacedForScopes.set(registrationKey(as.issuer, redirectUri), true);
    const expiring = isExpiring(found);
    if (!expiring && (await trial.isStillKnown(route, as, found))) return fromRegistration(found);
    const made = await getOr(fromRegistration(found));
    if (!expiring) await trial.noteReplacement(route, as, made);
    return fromRegistration(made);
  }

  function logExpiry(route: Route, registration: ClientRegistration): void {
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

  /** The registration with a new secret, or unchanged if the rotation fails. Runs once at a time over all replicas. */
  async function withNewSecret(route: Route, found: ClientRegistration): Promise<ClientRegistration> {
    const { issuer, redirectUri, clientId } = found;
    const urls = { redirectUri, jwksUri: "" };
    const rotate = async (current: ClientRegistration) => {
      const now = await rotateClientSecret(current, {
        fetch: routeFetch.fetchFor(route),
        urls,
        isOurs,
      });
      logExpiry(route, now);
      return now;
    };
    try {
      const now = await rotateOnce.run(registrationKey(issuer, redirectUri), () =>
        store.clientRegistrations.rotateSecret(issuer, redirectUri, clientId, rotate),
      );
      return now ?? (await store.clientRegistrations.find(issuer, redirectUri, true)) ?? found;
    } catch (thrown) {
      const error = UpstreamOAuthError.from(thrown, "renewing the registration");
      const { code, detail } = error;
      logger.warn({ issuer, route: route.id, clientId, reason: code, detail }, error.message);
      return found;
    }
  }

  /** Rotates the secret in the background while the old one is valid, and waits if it has expired. */
  async function rotatedIfDue(route: Route, found: ClientRegistration): Promise<ClientRegistration> {
    if (!isDue(found)) return found;
    const updated = withNewSecret(route, found);
    return hasEnded(found) ? updated : found;
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
    async forConsent(route, auth, server, asked, insteadOf) {
      if (auth.clientId) {
        const { clientId, authorizationServerUrl } = auth;
        if (!auth.endpoint) await keepToIssuer(store, route, { clientId, authorizationServerUrl }, server);
        const client = configured(auth, auth.clientId, server.hasMetadata ? server.as : undefined);
        return { client, redirectUri: redirectUriByHand(deps.routes().config, route) };
      }
      const table = deps.routes();
      const urls = clientUrls(table, route, credentialOwner(server));
      const bySecret = auth.authMethod?.startsWith("client_secret_") ?? false;
      if (!bySecret && (await usesDocument(route, server.as))) {
        const published = table.config.upstreamOAuth.clientIdMetadataUrl;
        if (published === undefined) {
          const client = documentClient(documentClientId(urls, server.as), urls);
          return { client, redirectUri: urls.redirectUri };
        }
        // Client id and callback are the same for every issuer, so the upstream may only name one.
        const { authorizationServerUrl } = auth;
        await keepToIssuer(store, route, { clientId: published, authorizationServerUrl }, server);
        const { clientId, redirectUri } = publishedClientUrls(table, route, published);
        return { client: documentClient(clientId), redirectUri };
      }
      if (server.as.registration_endpoint) {
        const scopes = { asked, supported: allowedScopes(auth, server.as.scopes_supported ?? []) };
        const { authMethod } = auth;
        const client = await registered(route, server.as, urls, { scopes, authMethod, insteadOf });
        return { client, redirectUri: urls.redirectUri };
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
      return found?.clientId === clientId ? fromRegistration(await rotatedIfDue(route, found)) : undefined;
    },
    isGone,
    async forget(route, client, rejection) {
      const gone = await isGone(route, client, rejection);
      if (gone) await store.clientRegistrations.delete(client.issuer, client.redirectUri, client.clientId);
      return gone;
    },
    async replaceableForScopes(route, { issuer, clientId, redirectUri }, scopes) {
      const found = await store.clientRegistrations.find(issuer, redirectUri, true);
      const registered = (found && notesOf(found).scope?.split(" ")) ?? [];
      const lacking = scopes.filter((scope) => !registered.includes(scope));
      if (found?.clientId !== clientId) return found && lacking.length > 0 ? undefined : { registered };
      if (lacking.length === 0) return undefined;
      const operators = consentAuth(route)?.scopes ?? [];
      // One user's browser reports the rejection, and replacing the registration affects all users: limit how often.
      const stepUp = !lacking.some((scope) => operators.includes(scope));
      if (stepUp && replacedForScopes.has(registrationKey(issuer, redirectUri))) return undefined;
      return {
        registered,
        insteadOf: { clientId, registeredAt: notesOf(found).registeredAt, stepUp },
      };
    },
    retestRegistration: trial.retestRegistration,
  };

  async function isGone(
    ...[route, { issuer, clientId, redirectUri }, rejection]: Parameters<Clients["isGone"]>
  ): Promise<boolean> {
    const table = deps.routes();
    // The document without an id is not served on a host with several routes: its client is gone.
    const kind = documentKind(table, route, { clientId, redirectUri });
    if (kind) {
      const isOld = redirectUri.endsWith("/callback");
      return isOld && !clientMetadataDocument(table, route.host);
    }
    const found = await store.clientRegistrations.find(issuer, redirectUri, true);
    if (found?.clientId !== clientId) return false;
    // All users of a route share the registration: one user's response must not end it.
    return rejection.error !== undefined || hasEnded(found);
  }

  function documentClient(
    clientId: string,
    { confidentialClientId }: Pick<ClientUrls, "confidentialClientId"> = {},
  ): UpstreamClient {
    const confidential = clientId === confidentialClientId;
    return { clientId, authMethod: confidential ? "private_key_jwt" : "none", source: "document", ownKey };
  }

  function configured(auth: ConsentAuth, clientId: string, as?: AuthorizationServer): UpstreamClient {
    // Explicit endpoints have no issuer.
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
