import type Router from "@koa/router";
import type { Context } from "koa";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Subject } from "../model/subject.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** The signed-in user of a browser, as reported by the sign-in provider. */
export interface BrowserSession extends Subject {
  /** SHA-256 of the session id, base64url: safe in URLs and logs. */
  readonly sessionName: string;
  /** The session on the issuer's host that this one derives from. */
  readonly parentSessionName?: string;
  /** Unix seconds. */
  readonly sessionExpiresAt: number;
  /** Unix seconds: when the provider last confirmed this user. */
  readonly checkedAt: number;
}

/**
 * The sign-in provider's answer to a recheck of a user. `sign_in_again`: there is no refresh token, and the last sign-in is too old.
 */
export type Recheck = "ok" | "rejected" | "unavailable" | "sign_in_again";

/** Sign-in at the sign-in provider, and the resulting browser sessions. */
export interface SignIn {
  /** Serves `sign_in`, `sign_in/callback[/PROVIDER]`, `sign_in/handover`, `sign_in/complete`, `sign_in/back_channel_logout` and `sign_out`. */
  readonly router: Router;
  /** The user who is signed in on this host, from the session cookie. */
  person(ctx: Context): Promise<BrowserSession | undefined>;
  /** The same for a raw `Cookie` header (client routes); synchronous if the session is cached. */
  sessionFromCookieHeader(
    cookie: string,
    host: string,
  ): BrowserSession | undefined | Promise<BrowserSession | undefined>;
  /**
   * The URL that signs the browser in and returns to `returnTo`, a path on this host; sets cookies.
   * @throws RangeError if `returnTo` is not a path on this host.
   */
  begin(ctx: Context, returnTo: string): Promise<string>;
  /** Checks the user with the provider again. On a rejection, ends the user's sessions and grants before it returns. */
  recheck(userId: string): Promise<Recheck>;
  /**
   * Refreshes the provider's expired tokens. One replica asks, the others wait for its result; a rejection is handled as in `recheck`.
   */
  refreshTokens(old: Pick<SignInSession, "userId" | "tokensAt">): Promise<Recheck>;
  /** Rechecks all users who have delegated connections, since no token refresh does; returns how many. To be called periodically, on one replica. */
  recheckOwners(signal?: AbortSignal): Promise<number>;
  /** Calls `listener`, without awaiting it, for each user whom the provider rejects, after their sessions and grants have ended. */
  onPersonRejected(listener: (userId: string) => Promise<unknown>): void;
  /** Hidden-field value that binds a form to the session of this request; undefined without a session cookie. */
  csrfToken(ctx: Context): string | undefined;
  /** Whether a posted form has that value. */
  csrfMatches(ctx: Context, token: string | null | undefined): boolean;
  close(): void;
}

/** Dependencies of `createSignIn`. */
export interface SignInDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  /** Fetches from the configured sign-in providers. */
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  readonly metrics?: Metrics;
}
