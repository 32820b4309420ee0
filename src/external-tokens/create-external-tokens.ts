import { decodeJwt, decodeProtectedHeader, type JWTVerifyGetKey } from "jose";
import { LRUCache } from "lru-cache";
import { isMember } from "../config/aggregates.ts";
import { isValidForRoute } from "../config/check-identities.ts";
import type { Config } from "../config/config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { StoreUnavailable } from "../store/errors.ts";
import type { People, PersonFacts } from "../store/people.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Admission } from "../util/admission.ts";
import { keysOfGroups } from "../util/keys-of-groups.ts";
import { SingleFlight } from "../util/single-flight.ts";
import {
  type Caller,
  type ExternalTokens,
  issuedTo,
  type Rejected,
  type RejectionReason,
  type Verification,
  type VerifiedToken,
} from "./external-tokens.ts";
import { memberTokens } from "./member-tokens.ts";
import { sessionTokens } from "./session-tokens.ts";
import type { SigningKeyRing } from "./signing-keys.ts";
import { issuerKeys, verifyForeignToken, verifyOwnToken } from "./verify-token.ts";

type Accepted = Extract<Verification, { ok: true }>;
/** A cached verified token: the configuration it was verified under, and the result. */
interface Entry {
  readonly verified: VerifiedToken;
  /** When the store was asked whether its grant or session is live, ms (monotonic). */
  readonly askedAt: number;
  readonly config: Config;
  /** Without the person's facts, which may change. */
  readonly accepted: Accepted;
  /** The same with the person's facts as last read. */
  current?: { readonly person: PersonFacts; readonly accepted: Accepted };
}
type Outcome = Entry | Rejected;

/** What is known about a token's grant or session. */
interface Known {
  /** The store has been asked since the caller came. */
  readonly isConfirmed: boolean;
  /** It is in the cache, which notifications keep current. */
  readonly isCached: boolean;
}

const cacheHit: Known = { isConfirmed: false, isCached: true };

/** Size of a caller and its cached assertion without the token itself; measured, rounded up. */
const bytesPerEntry = 3072;

/**
 * Verifies external tokens with an in-memory cache. The cache is trusted only while the store's notification listener is healthy;
 * otherwise every check asks the store whether the grant or session is still live.
 */
export function createExternalTokens(deps: {
  readonly routes: CurrentRoutes;
  readonly store: Pick<
    Store,
    "authorizationServerRecords" | "delegations" | "browserSessions" | "notifications" | "audit"
  >;
  readonly people: Pick<People, "find" | "read">;
  /** For the verification of own tokens, which needs the database. */
  readonly admission: Pick<Admission, "run" | "turnAway">;
  readonly keys: SigningKeyRing;
  /** For foreign issuers' metadata and keys; must be the fetch that checks untrusted URLs. */
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** The ids of the members that the person has allowed for a grant of an aggregated route. */
  readonly grantedMembers: (grantId: string) => ReadonlySet<string> | Promise<ReadonlySet<string>>;
  /** Unix milliseconds. */
  readonly now?: () => number;
}): ExternalTokens {
  const { routes, store, people, keys, logger, metrics, admission } = deps;
  const now = deps.now ?? Date.now;
  const tokensOf = keysOfGroups();
  const cache = new LRUCache<string, Entry>({
    maxSize: routes().config.limits.tokenCacheBytes,
    dispose: ({ verified }, token, reason) => {
      for (const group of revocationGroups(verified)) tokensOf.remove(group, token);
      if (reason === "evict") metrics.cacheEvictions.inc({ cache: "external_token" });
    },
    sizeCalculation: (_entry, token) => token.length + bytesPerEntry,
  });
  const verifications = new SingleFlight<Outcome>();
  const issuers = new Map<string, JWTVerifyGetKey>();
  const hits = metrics.cacheLookups.labels("external_token", "hit");
  const misses = metrics.cacheLookups.labels("external_token", "miss");
  const session = sessionTokens({ routes, keys, store, logger, now, metrics });
  const member = memberTokens({ routes, keys, store, logger, now, metrics });
  // If a revocation arrives while a token is being verified, the result must not be cached.
  let revocations = 0;

  const unsubscribe = store.notifications.subscribe((change) => {
    if (change.table === "everything") {
      revocations++;
      cache.clear();
      session.clear();
      member.clear();
    } else if (change.table === "grant") {
      revocations++;
      evict(ofGrant(change.grantId));
      member.forget(change.grantId);
    } else if (change.table === "browser_session") {
      revocations++;
      evict(ofSessions(change.userId));
      session.forget(change.userId);
    }
  });
  const stopFollowingKeys = keys.onChange(() => {
    revocations++;
    cache.clear();
    session.clear();
    member.clear();
  });

  function evict(group: string) {
    for (const token of tokensOf.of(group)) cache.delete(token);
  }

  /** The caller according to the store; undefined once the token's grant or session has ended. */
  async function currentCaller(
    verified: VerifiedToken,
    known = verified.caller,
  ): Promise<Caller | undefined> {
    const { grantId, sessionName } = verified;
    if (grantId) {
      const [live, delegatedBy] = await Promise.all([
        store.authorizationServerRecords.grantIsLive(grantId),
        known.kind === "service_account" ? delegator(grantId, verified) : undefined,
      ]);
      if (!live) return undefined;
      return known.delegatedBy === delegatedBy ? known : { ...known, delegatedBy };
    }
    if (sessionName && !(await store.browserSessions.isLive(sessionName))) return undefined;
    return known;
  }

  /** The result for a token whose grant or session is live: a person's facts come from their current sign-in record. */
  function withPerson(entry: Entry): Verification | Promise<Verification> {
    const { caller } = entry.accepted;
    if (caller.kind !== "person") return entry.accepted;
    const person = people.find(caller.userId);
    return person instanceof Promise
      ? person.then((found) => asPerson(entry, found))
      : asPerson(entry, person);
  }

  function asPerson(entry: Entry, person: PersonFacts | undefined): Verification {
    if (!person) return reject("revoked", entry.verified);
    if (entry.current?.person !== person)
      entry.current = { person, accepted: { ok: true, caller: { ...entry.accepted.caller, ...person } } };
    return entry.current.accepted;
  }

  /** The owner of the connection that a service account may use on its token's route. */
  async function delegator(grantId: string, { audience }: VerifiedToken): Promise<string | undefined> {
    const route = routes().byResource(audience[0] ?? "");
    if (!route || !audience.includes(route.resource)) return undefined;
    const delegations = await store.delegations.ofGrant(grantId);
    return delegations.find(({ routeId, upstream }) => routeId === route.id && upstream === route.upstream)
      ?.ownerId;
  }

  function cached(token: string, config: Config): Entry | undefined {
    const entry = cache.get(token);
    if (!entry || entry.config !== config) return undefined;
    const { verifyAgainAt } = entry.verified;
    return verifyAgainAt !== undefined && verifyAgainAt <= now() ? undefined : entry;
  }

  function verifyOnce(token: string, issuer: string | undefined, config: Config): Promise<Outcome> {
    return verifications.run(token, () => {
      const verify = () => verifyCold(token, issuer, config);
      // The keys of other issuers may have to be fetched: a slow one must not take the places of others.
      return issuer === config.issuer ? admission.run(verify) : verify();
    });
  }

  async function verifyCold(token: string, issuer: string | undefined, config: Config): Promise<Outcome> {
    const revocationsBefore = revocations;
    const verified = await verifySignature(token, issuer, config);
    if ("rejection" in verified) return verified;
    const askedAt = performance.now();
    const isPerson = verified.caller.kind === "person" && store.notifications.healthy();
    const [caller] = await Promise.all([
      currentCaller(verified),
      // Needed next, and cached then.
      isPerson ? people.find(verified.caller.userId) : undefined,
    ]);
    if (!caller) return { rejection: "revoked", issuedTo: issuedTo(verified.caller) };
    const entry: Entry = { verified, askedAt, config, accepted: { ok: true, caller } };
    // A copy: the token may be a slice of a whole request, which the cache would keep in memory.
    if (revocations === revocationsBefore) keep(Buffer.from(token).toString(), entry);
    return entry;
  }

  function keep(token: string, entry: Entry) {
    cache.set(token, entry);
    // An entry larger than the cache is not kept.
    if (cache.has(token)) for (const group of revocationGroups(entry.verified)) tokensOf.add(group, token);
  }

  async function verifySignature(
    token: string,
    issuer: string | undefined,
    config: Config,
  ): Promise<VerifiedToken | Rejected> {
    if (issuer === undefined) return { rejection: "malformed" };
    const { leeway, trustedIssuers } = config.externalTokens;
    if (issuer === config.issuer) {
      return verifyOwnToken(token, { issuer, leeway, keys, now: now() });
    }
    let rejected: Rejected = { rejection: "unknown_issuer" };
    // An issuer may be trusted for several audiences with different claims: the first entry that accepts the token wins.
    for (const trusted of trustedIssuers) {
      if (trusted.issuer !== issuer) continue;
      const name = `${trusted.issuer} ${trusted.jwksUri ?? ""}`;
      const keysOfIssuer = issuers.get(name) ?? issuerKeys({ ...deps, ...trusted, now });
      issuers.set(name, keysOfIssuer);
      const verified = await verifyForeignToken(token, trusted, { keys: keysOfIssuer, leeway, now: now() });
      if (!("rejection" in verified)) return verified;
      rejected = verified;
    }
    return rejected;
  }

  /** @param known what is known about its grant or session */
  function answer(
    outcome: Outcome,
    route: Route,
    leeway: number,
    known: Known,
  ): Verification | Promise<Verification> {
    if ("rejection" in outcome) return { ok: false, ...outcome };
    const { verified } = outcome;
    if (verified.expiresAt + leeway <= now() / 1000) return reject("expired", verified);
    if (!isValidFor(verified, route)) return reject("wrong_audience", verified);
    const allowed = mayCall(verified, route);
    if (allowed === false) return reject("revoked", verified);
    if (allowed instanceof Promise)
      return allowed.then((yes) => (yes ? live(outcome, known) : reject("revoked", verified)));
    return live(outcome, known);
  }

  /** When a caller can come back; undefined: its token can be verified now. */
  function turnAway(token: string, issuer: string | undefined, config: Config): number | undefined {
    return issuer === config.issuer && !verifications.get(token) ? admission.turnAway() : undefined;
  }

  async function verifyUnlessBusy(token: string, config: Config): Promise<Outcome> {
    const issuer = unverifiedIssuer(token);
    if (turnAway(token, issuer, config) !== undefined)
      throw new StoreUnavailable("external_token.identify", new Error("too many callers"));
    return verifyOnce(token, issuer, config);
  }

  /** The result for a valid token, if its grant or session is live. */
  function live(outcome: Entry, { isConfirmed, isCached }: Known): Verification | Promise<Verification> {
    const { verified, accepted, config } = outcome;
    if (isConfirmed || accepted.caller.kind === "foreign") return withPerson(outcome);
    if (isCached && store.notifications.healthy()) return withPerson(outcome);
    const retryAfterSeconds = admission.turnAway(true);
    if (retryAfterSeconds !== undefined)
      return { ok: false, rejection: "too_many_callers", retryAfterSeconds };
    return admission.run(async () => {
      const askedAt = performance.now();
      const caller = await currentCaller(verified, accepted.caller);
      if (!caller) return reject("revoked", verified);
      return withPerson(
        caller === accepted.caller ? outcome : { verified, askedAt, config, accepted: { ok: true, caller } },
      );
    }, true);
  }

  /** A token for a member of an aggregated route: the route must still have it, and the person must have allowed it. */
  function mayCall({ caller: { via }, grantId }: VerifiedToken, route: Route): boolean | Promise<boolean> {
    if (via === undefined) return true;
    const table = routes();
    if (grantId === undefined || !isMember(table.config, table.byId(via.aggregate), route)) return false;
    const granted = deps.grantedMembers(grantId);
    if (granted instanceof Promise) return granted.then((ids) => ids.has(route.id));
    return granted.has(route.id);
  }

  /** Rejects a token whose signature is valid. */
  function reject(
    rejection: RejectionReason,
    { caller }: VerifiedToken,
  ): Extract<Verification, { ok: false }> {
    return { ok: false, rejection, issuedTo: issuedTo(caller) };
  }

  /** The gateway's tokens are valid for the route whose resource they name, a trusted issuer's tokens for the routes of its entry. */
  function isValidFor({ audience, caller, routes: listed }: VerifiedToken, route: Route): boolean {
    if (caller.kind !== "foreign") return audience.includes(route.resource);
    return audience.some((entry) => isValidForRoute(entry, listed, route));
  }

  function isTooLong(token: string, { externalTokens }: Config): boolean {
    if (token.length <= externalTokens.maxBytes) return false;
    metrics.limitsReached.inc({ limit: "token_bytes" });
    return true;
  }

  return {
    verify(token, route) {
      const { config } = routes();
      const { leeway } = config.externalTokens;
      if (isTooLong(token, config)) return { ok: false, rejection: "too_large" };
      const entry = cached(token, config);
      if (!entry) {
        const issuer = unverifiedIssuer(token);
        const retryAfterSeconds = turnAway(token, issuer, config);
        if (retryAfterSeconds !== undefined)
          return { ok: false, rejection: "too_many_callers", retryAfterSeconds };
        misses.inc();
        const arrivedAt = performance.now();
        return verifyOnce(token, issuer, config).then((outcome) => {
          // A caller that joined another's verification may have come after the store was asked: something may have ended since.
          const isConfirmed = "askedAt" in outcome && outcome.askedAt >= arrivedAt;
          return answer(outcome, route, leeway, { isConfirmed, isCached: cache.get(token) === outcome });
        });
      }
      hits.inc();
      return answer(entry, route, leeway, cacheHit);
    },
    async identify(token) {
      const { config } = routes();
      const { leeway } = config.externalTokens;
      if (isTooLong(token, config)) return { ok: false, rejection: "too_large" };
      const outcome = cached(token, config) ?? (await verifyUnlessBusy(token, config));
      if ("rejection" in outcome) return { ok: false, rejection: outcome.rejection };
      const { verified, accepted } = outcome;
      const { audience } = verified;
      // Clients never have one: it is valid at its member only.
      if (verified.caller.via !== undefined) return { ok: false, rejection: "wrong_audience" };
      if (verified.expiresAt + leeway <= now() / 1000) return { ok: false, rejection: "expired" };
      // Not on the hot path, and used right after revocations: the store is more current than the notifications.
      const caller = await currentCaller(verified, accepted.caller);
      if (caller?.kind !== "person")
        return caller
          ? { ok: true, caller, audience, token: verified.token }
          : { ok: false, rejection: "revoked" };
      const person = await people.read(caller.userId);
      return person
        ? { ok: true, caller: { ...caller, ...person }, audience, token: verified.token }
        : { ok: false, rejection: "revoked" };
    },
    forSession: session.mint,
    forMember: member.mint,
    close() {
      unsubscribe();
      stopFollowingKeys();
      cache.clear();
      session.clear();
      member.clear();
    },
  };
}

const ofGrant = (grantId: string) => `grant ${grantId}`;
const ofSessions = (userId: string) => `sessions ${userId}`;

/** The groups whose revocation ends a token: its grant, its person's sessions. */
function revocationGroups({ grantId, sessionName, caller }: VerifiedToken): string[] {
  return [
    ...(grantId === undefined ? [] : [ofGrant(grantId)]),
    ...(sessionName === undefined ? [] : [ofSessions(caller.userId)]),
  ];
}

/** The unverified `iss`, used only to select the verifier; undefined if the token is not a signed JWT. */
function unverifiedIssuer(token: string): string | undefined {
  try {
    decodeProtectedHeader(token);
    const { iss } = decodeJwt(token);
    return typeof iss === "string" ? iss : undefined;
  } catch {
    return undefined;
  }
}
