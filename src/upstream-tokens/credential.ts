import type { Route } from "../model/route.ts";
import type { FailureCode } from "../upstream-oauth/failures.ts";

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

type Ready = Extract<Credential, { kind: "credential" }>;
const made = new WeakMap<Route, Ready>();
const nothing: Ready = { kind: "credential", headers: [] };

/** The credential that stands in the routes file, the same for every caller (F1.4); undefined where tokens are needed. */
export function staticCredential(route: Route): Ready | undefined {
  if (route.mcp.kind !== "server") return nothing;
  const { auth } = route.mcp;
  if (auth.type === "none") return nothing;
  if (auth.type !== "api_key" && auth.type !== "headers") return undefined;
  let credential = made.get(route);
  if (!credential) {
    const headers = auth.type === "api_key" ? { [auth.header]: auth.value } : auth.headers;
    credential = {
      kind: "credential",
      headers: Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const),
    };
    made.set(route, credential);
  }
  return credential;
}
