import type { AuthorizationServer } from "oauth4webapi";
import type { ClientAuthMethod } from "../config/route.ts";
import { clientKeyAlg } from "./client-key.ts";

/**
 * The method we use at a server: the first of ours that it lists. A server that lists none takes Basic (RFC 8414 section 2).
 *
 * @param able which methods we have the means for, the one we like best first.
 * @returns undefined when the server lists only methods that we cannot do.
 */
export function chooseAuthMethod<Able extends ClientAuthMethod>(
  as: AuthorizationServer,
  able: readonly Able[],
): Able | undefined {
  const listed = as.token_endpoint_auth_methods_supported ?? ["client_secret_basic", "none"];
  return able.find((method) => listed.includes(method));
}

/** Of these, what is left where assertions with our own key are not taken. */
export function withOwnKey<Able extends ClientAuthMethod>(
  as: AuthorizationServer,
  able: readonly Able[],
): readonly Able[] {
  const algs = as.token_endpoint_auth_signing_alg_values_supported;
  if (!Array.isArray(algs) || algs.includes(clientKeyAlg)) return able;
  return able.filter((method) => method !== "private_key_jwt");
}
