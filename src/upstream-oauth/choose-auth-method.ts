import type { AuthorizationServer } from "oauth4webapi";
import type { ClientAuthMethod } from "../model/route.ts";
import { clientKeyAlg } from "./client-key.ts";
import { textsOf } from "./read-members.ts";

/** Ways to prove a client secret. */
export const bySecret: readonly ClientAuthMethod[] = ["client_secret_basic", "client_secret_post"];

/**
 * The method we use at a server: the first of ours that it lists, but of the two by a secret the one that it lists first. A server
 * that lists none takes Basic (RFC 8414 section 2). `private_key_jwt` is with our own key here.
 *
 * @param able which methods we have the means for, the one we like best first.
 * @returns undefined when the server lists only methods that we cannot do.
 */
export function chooseAuthMethod<Able extends ClientAuthMethod>(
  as: AuthorizationServer,
  able: readonly Able[],
): Able | undefined {
  const listed = textsOf(as.token_endpoint_auth_methods_supported) ?? ["client_secret_basic", "none"];
  const fits = able.filter((one) => listed.includes(one) && (one !== "private_key_jwt" || takesOurs(as)));
  const [best] = fits;
  if (best === undefined || !bySecret.includes(best)) return best;
  const rank = (one: Able) => listed.indexOf(one);
  return fits.filter((one) => bySecret.includes(one)).reduce((a, b) => (rank(b) < rank(a) ? b : a));
}

function takesOurs({ token_endpoint_auth_signing_alg_values_supported: algs }: AuthorizationServer): boolean {
  return textsOf(algs)?.includes(clientKeyAlg) ?? true;
}
