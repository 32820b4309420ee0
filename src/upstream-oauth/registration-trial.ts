import type { AuthorizationServer } from "oauth4webapi";
import type { Route } from "../model/route.ts";
import type { ClientRegistration } from "../store/client-registrations.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { AuthMethods, UpstreamClient } from "./client-authentication.ts";
import { UpstreamOAuthError } from "./errors.ts";
import type { RouteFetch } from "./route-fetch.ts";
import { requestToken } from "./token-endpoint.ts";

/**
 * Tests whether servers still know the gateway's registrations. A server that has lost one shows users an error page and does not notify
 * the gateway, so a request with an invalid code is sent to its token endpoint.
 */
export interface RegistrationTrial {
  /** Tests a registration that has not been seen to work for a minute. */
  isStillKnown(route: Route, as: AuthorizationServer, registration: ClientRegistration): Promise<boolean>;
  /**
   * Tests a replacement for a rejected registration. If the server rejects it as well, the test is inconclusive there and is skipped for a
   * day: another registration would end all connections without effect.
   */
  noteReplacement(route: Route, as: AuthorizationServer, registration: ClientRegistration): Promise<void>;
  /**
   * The upstream rejects tokens, so its server may have lost its clients: the next authorization tests the registration first.
   * @param rejected a client that was rejected with a valid code: it is tested even if tests are inconclusive there
   */
  retestRegistration(route: Route, rejected?: Pick<UpstreamClient, "clientId" | "registeredAt">): void;
}

/** A registration not seen to work for this long is tested before a user is redirected, ms. */
const trustedForMs = 60_000;
/** How long a rejected client that signs still counts as known, ms: the server may have cached older keys. */
export const staleKeysMs = 15 * 60_000;

export function createRegistrationTrial(deps: {
  routeFetch: RouteFetch;
  authMethods: AuthMethods;
  clientOf: (registration: ClientRegistration) => UpstreamClient;
}): RegistrationTrial {
  const { routeFetch, authMethods, clientOf } = deps;
  /** When registrations were last seen to work, by client id, ms. */
  const workedAt = boundedCache<string, number>(10_000, { ttl: trustedForMs });
  /** When an upstream last rejected a token, by route id, ms. */
  const tokenRejectedAt = boundedCache<string, number>(10_000, { ttl: trustedForMs });
  /** Since when a server rejects a registration that signs, by client id, ms. */
  const rejectedSince = boundedCache<string, number>(1000);
  /** Registrations that were rejected with a valid code. */
  const rejectedWithCode = boundedCache<string, true>(1000);
  /** Token endpoints that reject the client if the code is unknown, which makes the test inconclusive. */
  const inconclusive = boundedCache<string, true>(1000, { ttl: 86_400_000 });

  /** A later registration may have the same client id. */
  const keyOf = (clientId: string, registeredAt: unknown) => `${clientId} ${registeredAt}`;

  /** Whether the token endpoint rejects the client, tested with an invalid code. Without an OAuth error, it may reject the code. */
  async function rejectsClient(
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
      const seen = Math.max(Number(metadata.registeredAt ?? 0), workedAt.get(clientId) ?? 0);
      const isTrusted = Date.now() - seen < trustedForMs && seen > (tokenRejectedAt.get(route.id) ?? 0);
      if (isTrusted || !as.token_endpoint) return true;
      const wasRejected = rejectedWithCode.has(keyOf(clientId, metadata.registeredAt));
      if (inconclusive.has(as.token_endpoint) && !wasRejected) return true;
      if (await rejectsClient(route, as, registration)) {
        if (authMethod !== "private_key_jwt") return false;
        const since = rejectedSince.get(clientId) ?? Date.now();
        rejectedSince.set(clientId, since);
        return Date.now() - since < staleKeysMs;
      }
      rejectedSince.delete(clientId);
      workedAt.set(clientId, Date.now());
      return true;
    },

    async noteReplacement(route, as, registration) {
      if (as.token_endpoint && (await rejectsClient(route, as, registration)))
        inconclusive.set(as.token_endpoint, true);
    },

    retestRegistration(route, rejected) {
      tokenRejectedAt.set(route.id, Date.now());
      if (rejected) rejectedWithCode.set(keyOf(rejected.clientId, rejected.registeredAt), true);
    },
  };
}
