import type { AuthorizationServer } from "oauth4webapi";
import type { Route } from "../model/route.ts";
import type { ClientRegistration } from "../store/client-registrations.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { AuthMethods, UpstreamClient } from "./client-authentication.ts";
import { UpstreamOAuthError } from "./errors.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { requestToken } from "./token-endpoint.ts";

/**
 * Whether servers still know registrations of ours. One that has forgotten us shows people an error page and tells us nothing: its
 * token endpoint finds out, by a code that cannot exist.
 */
export interface RegistrationTrial {
  /** Tries a registration that has not been seen to work for a minute. */
  isStillKnown(route: Route, as: AuthorizationServer, registration: ClientRegistration): Promise<boolean>;
  /**
   * Tries one that was made in the place of one that was refused: where it is refused as well, trying tells nothing, and the server
   * is not asked again for a day. The next registration would end everybody's connections for nothing, too.
   */
  noteReplacement(route: Route, as: AuthorizationServer, registration: ClientRegistration): Promise<void>;
  /**
   * The upstream rejects tokens: its server may have lost its clients, too, so that the next consent tries ours first.
   * @param refused the client that its server has refused with a real code: it is tried also where trying tells nothing
   */
  doubt(route: Route, refused?: Pick<UpstreamClient, "clientId" | "registeredAt">): void;
}

/** A registration not seen to work for so long is tried before a person is sent to the server with it, ms. */
const trustedForMs = 60_000;
/** For so long a refused client that signs is not taken for forgotten: the server may have read older keys of ours. Ms. */
export const unreadKeysMs = 15 * 60_000;

export function createRegistrationTrial(deps: {
  routeFetch: RouteFetch;
  authMethods: AuthMethods;
  clientOf: (registration: ClientRegistration) => UpstreamClient;
}): RegistrationTrial {
  const { routeFetch, authMethods, clientOf } = deps;
  /** When registrations were last seen to work, by client id, ms. */
  const provenAt = boundedCache<string, number>(10_000, { ttl: trustedForMs });
  /** When an upstream last rejected a token of ours, by route id, ms; older registrations are tried anyway. */
  const doubtedAt = boundedCache<string, number>(10_000, { ttl: trustedForMs });
  /** Since when a server refuses a registration that signs, by client id, ms. */
  const refusedSince = boundedCache<string, number>(1000);
  /** Registrations that were refused with a real code. */
  const refusedWithCode = boundedCache<string, true>(1000);
  /** Token endpoints that refuse a client with any code they do not know. */
  const untelling = boundedCache<string, true>(1000, { ttl: 86_400_000 });

  /** Another registration may have the same client id. */
  const keyOf = (clientId: string, registeredAt: unknown) => `${clientId} ${registeredAt}`;

  /** Whether the token endpoint refuses the client with a code that cannot exist. Without a word it may be about the code. */
  async function isRefused(
    route: Route,
    as: AuthorizationServer,
    registration: ClientRegistration,
  ): Promise<boolean> {
    try {
      await requestToken({
        fetch: routeFetch.fetchFor(route),
        authMethods,
        issuer: as.issuer,
        tokenEndpoint: as.token_endpoint ?? as.issuer,
        client: clientOf(registration),
        grantType: "authorization_code",
        parameters: { code: "0", redirect_uri: registration.redirectUri, code_verifier: "0".repeat(43) },
      });
      return false;
    } catch (error) {
      return (
        error instanceof UpstreamOAuthError && error.code === "client_rejected" && error.error !== undefined
      );
    }
  }

  return {
    async isStillKnown(route, as, registration) {
      const { clientId, metadata, authMethod } = registration;
      const seen = Math.max(Number(metadata.registeredAt ?? 0), provenAt.get(clientId) ?? 0);
      const isTrusted = Date.now() - seen < trustedForMs && seen > (doubtedAt.get(route.id) ?? 0);
      if (isTrusted || !as.token_endpoint) return true;
      const wasRefused = refusedWithCode.has(keyOf(clientId, metadata.registeredAt));
      if (untelling.has(as.token_endpoint) && !wasRefused) return true;
      if (await isRefused(route, as, registration)) {
        if (authMethod !== "private_key_jwt") return false;
        const since = refusedSince.get(clientId) ?? Date.now();
        refusedSince.set(clientId, since);
        return Date.now() - since < unreadKeysMs;
      }
      refusedSince.delete(clientId);
      provenAt.set(clientId, Date.now());
      return true;
    },

    async noteReplacement(route, as, registration) {
      if (as.token_endpoint && (await isRefused(route, as, registration)))
        untelling.set(as.token_endpoint, true);
    },

    doubt(route, refused) {
      doubtedAt.set(route.id, Date.now());
      if (refused) refusedWithCode.set(keyOf(refused.clientId, refused.registeredAt), true);
    },
  };
}
