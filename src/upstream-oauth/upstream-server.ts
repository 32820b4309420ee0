import type { AuthorizationServer } from "oauth4webapi";

/** The authorization server behind one route's upstream, as the routes file or discovery describes it. */
export interface UpstreamServer {
  /** Issuer and endpoints. Where the routes file gives endpoints only, `issuer` is the token endpoint's origin. */
  readonly as: AuthorizationServer;
  /** False for endpoints from the routes file: there is no issuer that `iss` could be compared with. */
  readonly issuerKnown: boolean;
  /** False for endpoints from the routes file and for the default endpoints of the 2025-03-26 revision. */
  readonly hasMetadata: boolean;
  /** RFC 8707 resource to ask for. */
  readonly resource?: string;
  /** Of the upstream's first challenge, else of its metadata. */
  readonly scopes: readonly string[];
  /** RFC 9728 `dpop_bound_access_tokens_required`. */
  readonly dpopRequired: boolean;
}
