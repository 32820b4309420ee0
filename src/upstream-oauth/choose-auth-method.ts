import type { AuthorizationServer } from "oauth4webapi";
import type { ClientAuthMethod } from "../config/route.ts";

const inOrder: readonly ClientAuthMethod[] = [
  "client_secret_basic",
  "client_secret_post",
  "private_key_jwt",
  "none",
];

/**
 * The method we use at a server: the first of ours that it lists. A server that lists none takes Basic (RFC 8414 section 2).
 *
 * @param able which methods we have the means for.
 * @returns undefined when the server lists only methods that we cannot do.
 */
export function chooseAuthMethod(
  as: AuthorizationServer,
  able: readonly ClientAuthMethod[],
): ClientAuthMethod | undefined {
  const listed = as.token_endpoint_auth_methods_supported ?? ["client_secret_basic", "none"];
  return inOrder.find((method) => able.includes(method) && listed.includes(method));
}
