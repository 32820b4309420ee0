import { randomUUID } from "node:crypto";
import { type JWTPayload, SignJWT } from "jose";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import { keysOfGroups } from "../util/keys-of-groups.ts";
import type { SigningKeyRing } from "./signing-keys.ts";

/** What an external token says beside the gateway's issuer; times in Unix seconds. */
interface Contents {
  readonly claims: JWTPayload;
  readonly subject: string;
  readonly audience: string | string[];
  readonly issuedAt: number;
  readonly expiresAt: number;
}

/**
 * External tokens that the gateway mints for its own use (RFC 9068), and a cache of them. Each belongs to a group, a session or a grant,
 * with which it is dropped.
 *
 * @param cacheName the metric's label
 * @param deps.now Unix milliseconds
 */
export function mintedTokens(
  cacheName: "session_token" | "member_token",
  deps: {
    readonly routes: CurrentRoutes;
    readonly keys: SigningKeyRing;
    readonly metrics: Metrics;
    readonly now: () => number;
  },
) {
  const { routes, keys, metrics, now } = deps;
  const namesOf = keysOfGroups();
  const cache = boundedCache<
    string,
    { readonly group: string; readonly until: number; readonly token: string }
  >(routes().config.limits.cacheEntries, {
    dispose: ({ group }, name, reason) => {
      namesOf.remove(group, name);
      if (reason === "evict") metrics.cacheEvictions.inc({ cache: cacheName });
    },
  });
  // A token that is signed while its group ends must not be cached.
  let endings = 0;

  async function sign({ claims, subject, audience, issuedAt, expiresAt }: Contents): Promise<string> {
    const { kid, key } = keys.signer("external_token");
    return new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
      .setIssuer(routes().config.issuer)
      .setSubject(subject)
      .setAudience(audience)
      .setIssuedAt(issuedAt)
      .setExpirationTime(expiresAt)
      .setJti(randomUUID())
      .sign(key);
  }

  return {
    /** The cached token, synchronously, or a new one. @param until how long a new one may be used again, Unix milliseconds */
    get(
      name: string,
      group: string,
      fresh: () => Contents & { readonly until: number },
      onIssued: () => void,
    ): string | Promise<string> {
      const entry = cache.get(name);
      if (entry && entry.until > now()) return entry.token;
      const endingsBefore = endings;
      const { until, ...contents } = fresh();
      return sign(contents).then((token) => {
        onIssued();
        if (endings !== endingsBefore) return token;
        cache.set(name, { group, until, token });
        namesOf.add(group, name);
        return token;
      });
    },
    forget(group: string) {
      endings++;
      for (const name of namesOf.of(group)) cache.delete(name);
    },
    clear() {
      endings++;
      cache.clear();
    },
  };
}
