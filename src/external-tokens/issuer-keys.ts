import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { allowInsecureRequests, customFetch, discoveryRequest, processDiscoveryResponse } from "oauth4webapi";
import type { Logger } from "../telemetry/logger.ts";

/**
 * The keys of a foreign key set (RFC 7517 section 5). Ignores entries that are not keys, and members that are null.
 *
 * @returns undefined if there is no list of keys
 */
export function readableKeys(keySet: unknown): Record<string, unknown>[] | undefined {
  if (typeof keySet !== "object" || keySet === null || !("keys" in keySet)) return undefined;
  if (!Array.isArray(keySet.keys)) return undefined;
  const keys: unknown[] = keySet.keys;
  return keys.flatMap((key) => {
    if (typeof key !== "object" || key === null || Array.isArray(key)) return [];
    return [Object.fromEntries(Object.entries(key).filter(([, value]) => value !== null))];
  });
}

const refreshAfterMs = 600_000;
const unknownKeyCooldownMs = 30_000;
const failureCooldownMs = 5_000;

/** An issuer's keys cannot be fetched now, and none are known. */
export const issuerUnavailable = "issuer_unavailable";

/**
 * Keys of one foreign issuer. They are fetched when first needed, refreshed in the background while in use, and fetched at once
 * (at most every 30 s) for an unknown kid. Known keys stay in use while the issuer is down.
 * The key function throws jose's `JWKSNoMatchingKey` or an Error with code `issuer_unavailable`.
 */
export function issuerKeys(deps: {
  readonly issuer: string;
  /** Absent: discovered (OpenID Connect Discovery 1.0 section 4). */
  readonly jwksUri?: string;
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  /** Unix milliseconds. */
  readonly now: () => number;
}): JWTVerifyGetKey {
  const { issuer, logger, now } = deps;
  let known: ReturnType<typeof createLocalJWKSet> | undefined;
  let fetchedAt = Number.NEGATIVE_INFINITY;
  let attemptedAt = Number.NEGATIVE_INFINITY;
  let underWay: Promise<void> | undefined;

  const fetchKeys = async () => {
    attemptedAt = now();
    const response = await deps.fetch(deps.jwksUri ?? (await discoverJwksUri(issuer, deps.fetch)), {
      headers: { accept: "application/json, application/jwk-set+json" },
      redirect: "manual",
    });
    if (response.status !== 200) throw new Error(`the issuer's key set endpoint returned ${response.status}`);
    const keySet: JSONWebKeySet = await response.json();
    const keys = readableKeys(keySet);
    known = createLocalJWKSet(keys ? ({ keys } as unknown as JSONWebKeySet) : keySet);
    fetchedAt = now();
  };
  const load = () => {
    underWay ??= fetchKeys()
      .catch((error: Error) =>
        logger.warn(
          { issuer, code: issuerUnavailable, reason: error.message },
          "cannot fetch the issuer's keys",
        ),
      )
      .finally(() => {
        underWay = undefined;
      });
    return underWay;
  };

  return async (header, token) => {
    if (!known) {
      if (underWay || now() - attemptedAt >= failureCooldownMs) await load();
      if (!known)
        throw Object.assign(new Error("the issuer's keys are not known"), { code: issuerUnavailable });
    } else if (now() - fetchedAt >= refreshAfterMs && now() - attemptedAt >= unknownKeyCooldownMs) {
      void load();
    }
    try {
      return await known(header, token);
    } catch (error) {
      const unknownKey = error instanceof errors.JWKSNoMatchingKey;
      if (!unknownKey || (!underWay && now() - attemptedAt < unknownKeyCooldownMs)) throw error;
      await load();
      return known(header, token);
    }
  };
}

async function discoverJwksUri(issuer: string, fetch: typeof globalThis.fetch): Promise<string> {
  const url = new URL(issuer);
  const response = await discoveryRequest(url, {
    [customFetch]: fetch,
    // The injected fetch decides whether plain HTTP is allowed.
    [allowInsecureRequests]: url.protocol === "http:",
  });
  const metadata = await processDiscoveryResponse(url, response);
  if (!metadata.jwks_uri) throw new Error("the issuer's metadata has no jwks_uri");
  return metadata.jwks_uri;
}
