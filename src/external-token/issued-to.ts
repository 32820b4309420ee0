import type { Caller, IssuedTo } from "./caller.ts";

/** Who a token's caller is, without what else is known of them. */
export function issuedTo({ userId, clientId, grantId }: Caller): IssuedTo {
  return { userId, clientId, grantId };
}
