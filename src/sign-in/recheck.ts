import { ClientError, ResponseBodyError, refreshTokenGrant } from "openid-client";
import type { SignInProvider } from "../config/config.ts";
import { nextChange } from "../store/notifications/notifications.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import { mapAtOnce } from "../util/at-once.ts";
import { SingleFlight } from "../util/single-flight.ts";
import { identityFromClaims, type OpenidClients, personClaims, tokensOf } from "./providers.ts";
import type { Sessions } from "./sessions.ts";
import type { Recheck, SignIn, SignInDeps } from "./sign-in.ts";

/** How long one replica may take to ask the provider, while the others use the stored state. */
const leaseMs = 30_000;

type Answer = SignInSession | "rejected" | "unavailable";
type OldTokens = Pick<SignInSession, "userId" | "tokensAt">;
/** `overtaken`: the answer is about a sign-in that is no longer the user's latest. */
type Asked = Exclude<Recheck, "sign_in_again"> | "asked_elsewhere" | "overtaken";

/**
 * Checks with the sign-in provider that a user is still valid, using the refresh token of the latest sign-in: at most once per
 * `sign_in.recheck`, or when new tokens are needed. Only one request at a time per user, because providers rotate refresh tokens.
 */
export function createRecheck(
  deps: SignInDeps,
  clients: OpenidClients,
  sessions: Sessions,
): Pick<SignIn, "recheck" | "refreshTokens" | "onPersonRejected"> {
  const { routes, store, logger } = deps;
  const onRejected: ((userId: string) => Promise<unknown>)[] = [];

  async function recheck(userId: string): Promise<Recheck> {
    const known = await store.signInSessions.find(userId);
    if (!known) return "sign_in_again";
    const { recheck: every, recheckGrace: grace, sessionTtl, providers } = routes().config.signIn;
    const age = (Date.now() - known.checkedAt.getTime()) / 1000;
    // An old record is rechecked immediately, unless a replica that does so may have moved `checkedAt`.
    const fresh = age < every && !(known.emailUnchecked && age < every - (2 * leaseMs) / 1000);
    if (fresh) return "ok";
    const provider = providers.find(({ id }) => id === known.providerId);
    if (!provider) return reject(userId, "the sign-in provider is no longer configured");
    // Without a refresh token, the sign-in is valid for as long as a browser session.
    if (!known.refreshToken) return age < sessionTtl ? "ok" : "sign_in_again";
    const asked = await askOnce(provider, known, known.refreshToken, every);
    if (asked === "asked_elsewhere") return "ok";
    if (asked === "overtaken") return recheck(userId);
    if (asked === "unavailable") return age < every + grace ? "ok" : "unavailable";
    return asked;
  }

  async function refreshTokens({ userId, tokensAt }: OldTokens): Promise<Recheck> {
    for (;;) {
      const change = nextChange(
        store.notifications,
        (one) => one.table === "browser_session" && one.userId === userId,
        leaseMs,
      );
      try {
        const known = await store.signInSessions.find(userId);
        if (!known) return "sign_in_again";
        if (known.tokensAt !== tokensAt) return "ok";
        if (!known.refreshToken) return "sign_in_again";
        const { recheck: every, providers } = routes().config.signIn;
        const provider = providers.find(({ id }) => id === known.providerId);
        if (!provider) return reject(userId, "the sign-in provider is no longer configured");
        if (isAsking(known, every)) {
          await change.arrived;
          continue;
        }
        const asked = await askOnce(provider, known, known.refreshToken, every);
        if (asked !== "asked_elsewhere" && asked !== "overtaken") return asked;
      } finally {
        change.stop();
      }
    }
  }

  /** Whether a replica is asking about this user. A replica that crashes keeps the lease for `leaseMs`. */
  function isAsking({ tokensAt, checkedAt }: SignInSession, every: number): boolean {
    if (tokensAt === undefined || tokensAt === checkedAt.getTime()) return false;
    return Date.now() - checkedAt.getTime() < every * 1000;
  }

  /** Only one replica asks: using a refresh token twice would end the user's session at the provider. */
  async function askOnce(
    provider: SignInProvider,
    known: SignInSession,
    refreshToken: string,
    every: number,
  ): Promise<Asked> {
    const leased = new Date(Date.now() - every * 1000 + leaseMs);
    if (!(await store.signInSessions.claimCheck(known.userId, known.checkedAt, leased))) {
      return "asked_elsewhere";
    }
    const answer = await ask(provider, known, refreshToken);
    if (answer === "unavailable") {
      await store.signInSessions.claimCheck(known.userId, leased, known.checkedAt);
      return answer;
    }
    if (answer === "rejected") {
      // Some providers revoke older tokens at a new sign-in; the user is still valid.
      const newest = await store.signInSessions.find(known.userId);
      if (newest?.tokensAt !== known.tokensAt) return "overtaken";
      return reject(known.userId, "rejected by the sign-in provider");
    }
    const { tokensAt } = known;
    if (!(await store.signInSessions.replace(answer, { tokensAt, checkedAt: leased }))) return "overtaken";
    sessions.forget(known.userId);
    return "ok";
  }

  async function ask(provider: SignInProvider, known: SignInSession, refreshToken: string): Promise<Answer> {
    try {
      const client = await clients.of(provider);
      const tokens = await refreshTokenGrant(client, refreshToken);
      const got = tokensOf(tokens);
      const { emailUnchecked: _, ...record } = known;
      const renewed: SignInSession = {
        ...record,
        ...got,
        idToken: got.idToken ?? known.idToken,
        refreshToken: got.refreshToken ?? refreshToken,
      };
      const subject = typeof known.claims.sub === "string" ? known.claims.sub : known.subject;
      const claimed = await personClaims(client, provider, tokens, { subject, idToken: known.idToken });
      if (claimed.anotherSubject) return "rejected";
      if (!claimed.claims) return renewed;
      const identity = identityFromClaims(provider, claimed.claims);
      if (identity?.userId !== known.userId) return "rejected";
      return { ...renewed, ...identity };
    } catch (error) {
      // Only invalid_grant is a rejection; anything else may be an outage or our own fault.
      if (error instanceof ResponseBodyError && error.error === "invalid_grant") return "rejected";
      const code = error instanceof ClientError ? error.code : "recheck_failed";
      logger.warn(
        { code, userId: known.userId, reason: String(error) },
        "rechecking the user at the provider failed",
      );
      return "unavailable";
    }
  }

  async function reject(userId: string, reason: string): Promise<"rejected"> {
    await store.endAccessOfPerson(userId, { action: "person.rejected", reason });
    sessions.forget(userId);
    // Not awaited: the listeners call other servers.
    for (const listener of onRejected)
      listener(userId).catch((error: unknown) =>
        logger.warn({ err: error, userId }, "disconnecting a rejected user failed"),
      );
    return "rejected";
  }

  const recheckOnce = oncePerUser(({ userId }) => recheck(userId));
  return {
    recheck: (userId) => recheckOnce({ userId }),
    refreshTokens: oncePerUser(refreshTokens),
    onPersonRejected: (listener) => void onRejected.push(listener),
  };
}

/** Users per statement, and rechecks at once: the provider also serves sign-ins. */
const ownersPerPage = 500;
const ownersAtOnce = 5;

/** Rechecks owners of delegated connections whose last check is old enough; returns how many. One that fails does not delay the others. */
export async function recheckOwners(
  { routes, store, logger }: SignInDeps,
  recheck: SignIn["recheck"],
  signal?: AbortSignal,
): Promise<number> {
  let checked = 0;
  const enough = () => signal?.aborted ?? false;
  for (let after: string | undefined = ""; after !== undefined && !enough(); ) {
    const before = new Date(Date.now() - routes().config.signIn.recheck * 1000);
    const page = await store.delegations.ownersToCheck(before, after, ownersPerPage);
    const check = (userId: string) =>
      recheck(userId).catch((error: unknown) => {
        logger.warn({ err: error, userId }, "rechecking the owner of a delegated connection failed");
      });
    checked += (await mapAtOnce(page.owners, ownersAtOnce, check, enough)).length;
    after = page.next;
  }
  return checked;
}

/** Concurrent requests for the same user share one answer. */
function oncePerUser(ask: (old: OldTokens) => Promise<Recheck>): (old: OldTokens) => Promise<Recheck> {
  const flights = new SingleFlight<Recheck>();
  return (old) => flights.run(old.userId, () => ask(old));
}
