import type { PeerAuthentication } from "../config/listeners.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Caller, ExternalTokens } from "../external-tokens/external-tokens.ts";
import type { Assertions } from "../external-tokens/identity-assertions.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import type { SignedCalls } from "../external-tokens/signed-calls.ts";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import type { PolicyTable } from "../policy/policy.ts";
import type { RateLimiter } from "../policy/rate-limiter.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import type { People } from "../store/people.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Credential } from "../upstream-tokens/upstream-tokens.ts";
import type { Admission } from "../util/admission.ts";
import type { Decision } from "./decision.ts";

/** A decision with the fields for its log line and metrics. */
export interface Checked {
  readonly decision: Decision;
  /** Stable reason code. */
  readonly reason: string;
  readonly route?: Route;
  /** The id of the stored route that cannot be used, instead of `route`. */
  readonly reservedId?: string;
  readonly userId?: string;
  /** The MCP client and grant, for the audit trail; set for denials only. */
  readonly clientId?: string;
  readonly grantId?: string;
  /** The tool that the request calls, where its body is read: several of a batch are separated by commas. For the log only. */
  readonly tool?: string;
  /** The policy rule that decided; for the log only. */
  readonly rule?: string;
  /** Id of the aggregated route through which the caller called, if any. */
  readonly via?: string;
}

/** A signed-in person, as far as a check needs it. */
export type SignedIn = Pick<BrowserSession, keyof Subject | "sessionName" | "sessionExpiresAt">;

/** Dependencies of the check service. */
export interface CheckDeps {
  readonly routes: CurrentRoutes;
  /** Compiled from the same configuration as `routes()`. */
  readonly policies: () => PolicyTable;
  readonly limiter: RateLimiter;
  readonly externalTokens: Pick<ExternalTokens, "verify" | "forSession">;
  /** For the owner of a delegated connection, whom policy must still allow. */
  readonly people: Pick<People, "find">;
  /** For the `Retry-After` of checks that could not be decided. */
  readonly admission: Pick<Admission, "retryAfterSeconds">;
  /** Whether a call comes from Envoy. */
  readonly peers: PeerAuthentication;
  readonly metadataProofs: Pick<
    MetadataProofs,
    "prove" | "verifyUpstreamPath" | "cookiePrefixes" | "signHeader"
  >;
  readonly signedCalls: Pick<SignedCalls, "sign">;
  readonly assertions: Pick<Assertions, "headersFor">;
  readonly upstreamTokens: {
    /** `externalToken` only where the route exchanges it (RFC 8693). */
    find(
      caller: Caller & { readonly externalToken?: string },
      route: Route,
    ): Credential | Promise<Credential>;
  };
  /** The person signed in at the browser, by its Cookie header. */
  readonly sessionFromCookieHeader: (
    cookie: string,
    host: string,
  ) => SignedIn | undefined | Promise<SignedIn | undefined>;
  /** Called with every check that did not allow the request; must not throw. */
  readonly onDenial?: (checked: Checked, requestId: string) => void;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Continues synchronously with a plain value, and asynchronously with a promise: the hot path must not pay for promises. */
export function when<T, R>(value: T | Promise<T>, next: (value: T) => R | Promise<R>): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
