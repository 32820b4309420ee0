import type { CurrentRoutes } from "../config/route-table.ts";
import type { ExternalTokens } from "../external-tokens/external-tokens.ts";
import type { SigningKeyRing } from "../external-tokens/signing-keys.ts";
import type { Route } from "../model/route.ts";
import type { Subject } from "../model/subject.ts";
import type { SignIn } from "../sign-in/sign-in.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { FailureCode } from "../upstream-oauth/failures.ts";
import type { ConsentNotice } from "../upstream-oauth/upstream-oauth.ts";

/** Dependencies of `createAuthorizationServer`. */
export interface AuthorizationServerDeps {
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly signIn: Pick<SignIn, "person" | "begin" | "recheck" | "csrfToken" | "csrfMatches">;
  /** Whether a user's connection to a route's upstream works, or needs the user. */
  readonly upstreamTokens: {
    connectionState(
      userId: string,
      route: Route,
    ): Promise<{
      readonly state: "connected" | "not_needed" | "missing" | "unavailable";
      readonly missingScopes: readonly string[];
      /** Whether signing in again at the sign-in provider would fix it. */
      readonly signInNeeded?: boolean;
      /** Why every call would fail, for any user. */
      readonly fault?: FailureCode;
    }>;
    /** Verifies the connection's token with the upstream; afterwards `connectionState` knows whether it is rejected. */
    verify(userId: string, route: Route): Promise<void>;
  };
  /** Where connecting the route would lead the user. Absent, or undefined as its result, if unknown in advance. */
  readonly upstreamNotice?: (userId: string, route: Route) => Promise<ConsentNotice | undefined>;
  /** Whether policy currently allows this user to reach the route. */
  readonly mayReach: (person: Subject, route: Route) => boolean;
  readonly keys: Pick<SigningKeyRing, "signer" | "jwks" | "privateKeys" | "onChange">;
  readonly externalTokens: Pick<ExternalTokens, "identify">;
  /** Fetches client documents and client keys from untrusted URLs. */
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  readonly metrics: Pick<
    Metrics,
    "authorizationDuration" | "authorizationStepDuration" | "consents" | "errors" | "limitsReached"
  >;
}
