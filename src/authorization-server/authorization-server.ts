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

/** What `createAuthorizationServer` needs from the rest of the house. */
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
      /** Signing in at the company's provider again would mend it. */
      readonly signInNeeded?: boolean;
      /** Why no call would get anywhere, whoever sends it. */
      readonly fault?: FailureCode;
    }>;
  };
  /** Where connecting the route would lead the person; absent, or undefined from it: that cannot be told beforehand. */
  readonly upstreamNotice?: (userId: string, route: Route) => Promise<ConsentNotice | undefined>;
  /** Whether policy lets this person reach the route now. */
  readonly mayReach: (person: Subject, route: Route) => boolean;
  readonly keys: Pick<SigningKeyRing, "signer" | "jwks" | "privateKeys" | "onChange">;
  readonly externalTokens: Pick<ExternalTokens, "identify">;
  /** Safe fetching: client documents and clients' keys come from strangers' URLs. */
  readonly fetch: typeof globalThis.fetch;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "authorizationStepDuration" | "consents" | "errors" | "limitsReached">;
}
