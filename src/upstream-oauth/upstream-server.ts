import type { AuthorizationServer } from "oauth4webapi";

/**
 * Whom our credentials at a server belong to: its issuer. One that only the operator's `expected_issuer` vouches for is told apart by its
 * token endpoint's origin, too: anybody can publish metadata with that issuer.
 */
export function credentialOwner({ as, named }: Pick<UpstreamServer, "as" | "named">): string {
  return named === undefined ? as.issuer : `${as.issuer} ${new URL(as.token_endpoint ?? named).origin}`;
}

/** The authorization server behind one route's upstream, as the routes file or discovery describes it. */
export interface UpstreamServer {
  /** Issuer and endpoints. Where the routes file gives endpoints only, `issuer` is the token endpoint's origin. */
  readonly as: AuthorizationServer;
  /** Where `as.issuer` is the operator's word (`expected_issuer`): the issuer that the upstream, or the operator, names, and whose metadata was read. */
  readonly named?: string;
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
