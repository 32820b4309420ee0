import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { SessionHolder } from "./external-tokens.ts";
import { mintedTokens } from "./minted-tokens.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

const maxSeconds = 3600;

/**
 * Mints external tokens for applications behind client routes: RFC 9068 tokens with several audiences that name, instead of a
 * grant, the browser session they end with. They contain the user id and nothing else about the person. Cached per session, route
 * and audience.
 */
export function sessionTokens(deps: {
  readonly routes: CurrentRoutes;
  readonly keys: SigningKeyRing;
  readonly store: Pick<Store, "audit">;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Unix milliseconds. */
  readonly now: () => number;
}) {
  const { routes, now, store, logger } = deps;
  const tokens = mintedTokens("session_token", deps);

  /** Not awaited: the audit trail must not delay a page. */
  function recordIssued(userId: string, { id: routeId, resource: clientId }: Route): void {
    store
      .audit({ action: "external_token.issued", userId, clientId, routeId })
      .catch((error: Error) =>
        logger.warn(
          { reason: error.message, userId, route: routeId },
          "cannot write a client route's token to the audit trail",
        ),
      );
  }

  return {
    mint(holder: SessionHolder, route: Route, audience: readonly string[]): string | Promise<string> {
      const { userId, sessionName, sessionExpiresAt } = holder;
      const fresh = () => {
        const issuedAt = Math.floor(now() / 1000);
        const lifetime = Math.min(routes().config.externalTokens.ttl, maxSeconds);
        const expiresAt = Math.min(issuedAt + lifetime, sessionExpiresAt);
        const left = expiresAt * 1000 - now();
        return {
          claims: { client_id: route.resource, session_name: sessionName },
          subject: userId,
          audience: [...audience],
          ...{ issuedAt, expiresAt },
          until: now() + (expiresAt === sessionExpiresAt ? left : left / 2),
        };
      };
      const name = JSON.stringify([sessionName, userId, route.resource, audience]);
      return tokens.get(name, userId, fresh, () => recordIssued(userId, route));
    },
    forget: tokens.forget,
    clear: tokens.clear,
  };
}
