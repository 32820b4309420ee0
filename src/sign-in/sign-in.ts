import type Router from "@koa/router";
import type { Context } from "koa";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { SignInSession } from "../store/sign-in-sessions.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** Who sits in front of the browser, as the company's OpenID provider said. */
export interface BrowserSession {
  readonly userId: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Readonly<Record<string, unknown>>;
  /** SHA-256 of the session id, base64url: safe in URLs and logs. */
  readonly sessionName: string;
  /** The issuer-host session this one was handed over from. */
  readonly parentSessionName?: string;
  /** Unix seconds: the session's end. */
  readonly sessionExpiresAt: number;
  /** Unix seconds: when the provider last spoke for this person. */
  readonly checkedAt: number;
}

/**
 * What the company's provider says when asked again about a person. `sign_in_again`: it gave us nothing to ask with,
 * and the last sign-in is too old to go by.
 */
export type Recheck = "ok" | "refused" | "unavailable" | "sign_in_again";

/** Sign-in at the company's OpenID provider, and the browser sessions that follow from it. */
export interface SignIn {
  /** Serves `sign_in`, `sign_in/callback[/PROVIDER]`, `sign_in/handover`, `sign_in/complete`, `sign_in/back_channel_logout` and `sign_out`. */
  readonly router: Router;
  /** The person signed in on this host, from the session cookie. */
  person(ctx: Context): Promise<BrowserSession | undefined>;
  /** The same for a raw `Cookie` header (client routes); no promise when the answer is at hand. */
  sessionFromCookieHeader(
    cookie: string,
    host: string,
  ): BrowserSession | undefined | Promise<BrowserSession | undefined>;
  /**
   * Location that signs the browser in and brings it back to `returnTo`, a path on this host; sets cookies.
   * @throws RangeError when `returnTo` is no path on this host.
   */
  begin(ctx: Context, returnTo: string): Promise<string>;
  /** Asks the provider again; on a refusal the person's sessions and grants are gone when this returns. */
  recheck(userId: string): Promise<Recheck>;
  /**
   * Gets new tokens of the provider in place of these, which have expired, with its refresh token. One replica asks, the others
   * wait for what it hears; a refusal is as in `recheck`.
   */
  renewTokens(old: Pick<SignInSession, "userId" | "tokensAt">): Promise<Recheck>;
  /** Asks again about whoever has delegated connections: nobody's token refresh asks for them. To be called now and then. */
  recheckOwners(): Promise<void>;
  /** Calls `listener` for each person whom the provider rejects, once their sessions and grants are gone; it is not waited for. */
  onPersonRejected(listener: (userId: string) => Promise<unknown>): void;
  /** Hidden-field value that binds a form to the session of this request; undefined without a session cookie. */
  csrfToken(ctx: Context): string | undefined;
  /** Whether a posted form carries that value. */
  csrfMatches(ctx: Context, token: string | null | undefined): boolean;
  close(): void;
}

/** What `createSignIn` needs from the rest of the house. */
export interface SignInDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  /** Reaches the company's OpenID providers, which an operator has named. */
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  readonly metrics?: Metrics;
}
