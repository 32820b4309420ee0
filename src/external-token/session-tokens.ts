import { randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import type { Route } from "../config/route.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Caller } from "./caller.ts";
import type { SessionHolder } from "./external-tokens.ts";
import type { SigningKeyRing } from "./signing-key-ring.ts";

interface Minted {
  readonly token: string;
  readonly caller: Caller;
}
const maxSeconds = 3600;

/**
 * Mints the TEs of applications behind client routes (F5.1): RFC 9068 tokens with several audiences and, in place of a grant,
 * the name of the browser session they die with. Cached per session, route and audience.
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
  const cache = new LRUCache<
    string,
    { readonly userId: string; readonly until: number; readonly minted: Minted }
  >({
    max: routes().config.limits.cacheEntries,
    dispose: (_minted, _name, reason) => {
      if (reason === "evict") metrics.cacheEvictions.inc({ cache: "session_token" });
    },
  });

  /** Nobody waits for it: a person at a page is not kept by the trail. */
  function tell(userId: string, { id: routeId, resource: clientId }: Route): void {
    store
      .audit({ action: "external_token.issued", userId, clientId, routeId })
      .catch((error: Error) =>
        logger.warn(
          { reason: error.message, userId, route: routeId },
          "a token of a client route could not be written to the audit trail",
        ),
      );
  }

  const sign = async (holder: SessionHolder, route: Route, audience: readonly string[]): Promise<Minted> => {
    const { config } = routes();
    const issuedAt = Math.floor(now() / 1000);
    const lifetime = Math.min(config.externalTokens.ttl, maxSeconds);
    const expiresAt = Math.min(issuedAt + lifetime, holder.sessionExpiresAt);
    const { kid, key } = keys.signer("external_token");
    const claims = {
      client_id: route.resource,
      session_name: holder.sessionName,
      email: holder.email,
      name: holder.name,
      groups: [...holder.groups],
    };
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
      .setIssuer(config.issuer)
      .setSubject(holder.userId)
      .setAudience([...audience])
      .setIssuedAt(issuedAt)
      .setExpirationTime(expiresAt)
      .setJti(randomUUID())
      .sign(key);
    tell(holder.userId, route);
    const caller: Caller = {
      userId: holder.userId,
      email: holder.email,
      name: holder.name,
      groups: holder.groups,
      claims,
      clientId: route.resource,
      scopes: [],
      expiresAt,
      kind: "person",
      refreshable: false,
    };
    return { token, caller };
  };

  return {
    mint(holder: SessionHolder, route: Route, audience: readonly string[]): Minted | Promise<Minted> {
      const { userId, email, name: displayName, groups, sessionName } = holder;
      const name = JSON.stringify([
        sessionName,
        userId,
        email,
        displayName,
        groups,
        route.resource,
        audience,
      ]);
      const entry = cache.get(name);
      if (entry && entry.until > now()) return entry.minted;
      return sign(holder, route, audience).then((minted) => {
        const left = minted.caller.expiresAt * 1000 - now();
        const atSessionsEnd = minted.caller.expiresAt === holder.sessionExpiresAt;
        cache.set(name, { userId, until: now() + (atSessionsEnd ? left : left / 2), minted });
        return minted;
      });
    },
    forget(userId: string) {
      for (const [name, entry] of cache.entries()) if (entry.userId === userId) cache.delete(name);
    },
    clear: () => cache.clear(),
  };
}
