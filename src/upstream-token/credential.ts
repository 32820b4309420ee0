import type { FailureCode } from "../upstream-oauth/failure.ts";

/** What the upstream gets for a caller, ready to be set as headers. */
export type Credential =
  | {
      readonly kind: "credential";
      /** Lower-case names. `authorization` for TIs; others for API keys; empty for `none`. */
      readonly headers: readonly (readonly [name: string, value: string])[];
      /** `connectionKeyName` of the connection; absent for credentials that are nobody's own. */
      readonly connection?: string;
      /** Version of the TI, for `challenge/`. */
      readonly version?: number;
      /** DPoP-bound (RFC 9449): makes the proof header for this request. */
      readonly proof?: (method: string, url: string) => Promise<readonly (readonly [string, string])[]>;
    }
  /** The user has to consent (again): challenge, with these scopes where known. */
  | { readonly kind: "missing"; readonly scopes: readonly string[]; readonly reason: string }
  /** Nothing the user could do: 503 with `Retry-After`. */
  | {
      readonly kind: "unavailable";
      readonly retryAfterSeconds: number;
      readonly reason: string;
      /** Why no call would get anywhere, whoever sends it: the upstream cannot be asked whether it needs a token. */
      readonly fault?: FailureCode;
    }
  /** This caller can never have one here (a service account on a route that needs a person's consent): 403. */
  | { readonly kind: "forbidden"; readonly reason: string };
