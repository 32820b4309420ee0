import type { RequestedDelegations } from "../../src/store/delegations.ts";
import type { Store } from "../../src/store/store.ts";

/** The grant of a service account that requests an owner's connections, as created by `service-accounts create`. */
export function askForDelegation(
  store: Pick<Store, "authorizationServerRecords">,
  { grantId, ...asked }: RequestedDelegations & { readonly grantId: string },
): Promise<void> {
  const payload = { accountId: asked.account, clientId: "service-account" };
  const record = { model: "Grant", id: grantId, payload, expiresAt: asked.expiresAt };
  return store.authorizationServerRecords.upsert(record, undefined, asked);
}
