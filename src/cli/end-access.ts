import { createServiceAccounts } from "../external-tokens/service-accounts.ts";
import { createSigningKeys, makeKey } from "../external-tokens/signing-keys.ts";
import { type CommandOptions, withStore } from "./command.ts";

/** Deleting what years of use have brought is one transaction, ms. */
const timeoutMs = 120_000;

/**
 * The command `end-access`: everybody signs in and every client authorizes again, as after a database was restored from a backup, in
 * which what was revoked since lives again.
 * @param options.reason for the audit trail
 * @returns the exit code.
 * @throws StoreUnavailable nothing was ended, or, where only the answer was lost, all of it: run it again
 */
export function runEndAccess(options: CommandOptions & { readonly reason: string }): Promise<number> {
  const { reason, out } = options;
  const work: Parameters<typeof withStore>[1] = async (context) => {
    const keys = await createSigningKeys(context);
    const accounts = await createServiceAccounts({ ...context, keys, issuer: context.config.issuer }).list();
    keys.close();
    const ended = await context.store.endAccess(await makeKey("external_token", new Date()), reason);
    out(
      `ended ${ended.grants} grants, ${ended.refreshTokens} refresh tokens, ${ended.browserSessions} browser sessions, ${ended.delegations} delegations and ${ended.pendingAuthorizations} flows under way, and every external token; ${ended.people} people have to sign in again\n`,
    );
    for (const { name, routeIds } of accounts)
      out(`service account ${name} (${routeIds.join(", ")}) has ended, too: create it again\n`);
    out("connections to upstreams are as they were\n");
    return 0;
  };
  return withStore(options, work, { operationTimeoutMs: timeoutMs });
}
