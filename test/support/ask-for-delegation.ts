import type { RequestedDelegations } from "../../src/store/delegations.ts";
import type { Store } from "../../src/store/store.ts";

/** The grant of a service account that asks an owner for connections, as `service-accounts create` makes it. */
export function askForDelegation(
  store: Pick<Store, "authorizationServerRecords">,
  { grantId, ...asked }: RequestedDelegations & { readonly grantId: string },
): Promise<void> {
  const payload = { accountId: asked.account, clientId: "service-account" };
  const record = { model: "Grant", id: grantId, payload, expiresAt: asked.expiresAt };
  return store.authorizationServerRecords.upsert(record, undefined, asked);
}
