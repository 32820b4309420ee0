import type { AuthorizationServer } from "oauth4webapi";
import type { ClientAuthMethod } from "../config/route.ts";
import { clientKeyAlg } from "./client-key.ts";

/**
 * The method we use at a server: the first of ours that it lists. A server that lists none takes Basic (RFC 8414 section 2).
 * `private_key_jwt` is with our own key here.
 *
 * @param able which methods we have the means for, the one we like best first.
 * @returns undefined when the server lists only methods that we cannot do.
 */
export function chooseAuthMethod<Able extends ClientAuthMethod>(
  as: AuthorizationServer,
  able: readonly Able[],
): Able | undefined {
  const listed = as.token_endpoint_auth_methods_supported ?? ["client_secret_basic", "none"];
  return able.find((method) => listed.includes(method) && (method !== "private_key_jwt" || takesOurs(as)));
}

function takesOurs({ token_endpoint_auth_signing_alg_values_supported: algs }: AuthorizationServer): boolean {
  return !Array.isArray(algs) || algs.includes(clientKeyAlg);
}
