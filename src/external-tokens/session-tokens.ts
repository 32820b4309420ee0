import { randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { keysOfGroups } from "../store/people.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { SessionHolder } from "./external-tokens.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

interface Minted {
  readonly token: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}
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
  const { routes, keys, now, store, logger, metrics } = deps;
  const namesOf = keysOfGroups();
  const cache = new LRUCache<
    string,
    { readonly userId: string; readonly until: number; readonly minted: Minted }
  >({
    max: routes().config.limits.cacheEntries,
    dispose: ({ userId }, name, reason) => {
      namesOf.remove(userId, name);
      if (reason === "evict") metrics.cacheEvictions.inc({ cache: "session_token" });
    },
  });

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

  const sign = async (holder: SessionHolder, route: Route, audience: readonly string[]): Promise<Minted> => {
    const { config } = routes();
    const issuedAt = Math.floor(now() / 1000);
    const lifetime = Math.min(config.externalTokens.ttl, maxSeconds);
    const expiresAt = Math.min(issuedAt + lifetime, holder.sessionExpiresAt);
    const { kid, key } = keys.signer("external_token");
    const token = await new SignJWT({ client_id: route.resource, session_name: holder.sessionName })
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
      .setIssuer(config.issuer)
      .setSubject(holder.userId)
      .setAudience([...audience])
      .setIssuedAt(issuedAt)
      .setExpirationTime(expiresAt)
      .setJti(randomUUID())
      .sign(key);
    recordIssued(holder.userId, route);
    return { token, expiresAt };
  };

  return {
    mint(holder: SessionHolder, route: Route, audience: readonly string[]): string | Promise<string> {
      const { userId, sessionName } = holder;
      const name = JSON.stringify([sessionName, userId, route.resource, audience]);
      const entry = cache.get(name);
      if (entry && entry.until > now()) return entry.minted.token;
      return sign(holder, route, audience).then((minted) => {
        const left = minted.expiresAt * 1000 - now();
        const atSessionsEnd = minted.expiresAt === holder.sessionExpiresAt;
        cache.set(name, { userId, until: now() + (atSessionsEnd ? left : left / 2), minted });
        namesOf.add(userId, name);
        return minted.token;
      });
    },
    forget(userId: string) {
      for (const name of namesOf.of(userId)) cache.delete(name);
    },
    clear: () => cache.clear(),
  };
}
