import { createServiceAccounts, type ServiceAccount } from "../external-tokens/service-accounts.ts";
import { createSigningKeys, makeKey } from "../external-tokens/signing-keys.ts";
import { type CommandOptions, withStore } from "./command.ts";

/** In ms; one transaction deletes everything: of ten million users, it takes minutes. */
const timeoutMs = 600_000;

/**
 * The command `end-access`: all users have to sign in and all clients to authorize again. Needed after a restore from a backup, which
 * brings back what was revoked since.
 * @param options.reason for the audit trail
 * @returns the exit code.
 * @throws StoreUnavailable nothing was ended, or everything if only the answer was lost: run it again
 */
export function runEndAccess(options: CommandOptions & { readonly reason: string }): Promise<number> {
  const { reason, out } = options;
  const work: Parameters<typeof withStore>[1] = async (context) => {
    const keys = await createSigningKeys(context);
    const accounts: Pick<ServiceAccount, "name" | "routeIds">[] = [];
    const all = createServiceAccounts({ ...context, keys, issuer: context.config.issuer }).list();
    for await (const page of all) accounts.push(...page.map(({ name, routeIds }) => ({ name, routeIds })));
    keys.close();
    const ended = await context.store.endAccess(await makeKey("external_token", new Date()), reason, "cli");
    out(
      `ended ${ended.grants} grants, ${ended.refreshTokens} refresh tokens, ${ended.browserSessions} browser sessions, ${ended.delegations} delegations, ${ended.pendingAuthorizations} pending authorizations, ${ended.aggregateSessions} sessions of aggregated routes and all external tokens; ${ended.people} users have to sign in again\n`,
    );
    for (const { name, routeIds } of accounts)
      out(`ended service account ${name} (${routeIds.join(", ")}): create it again\n`);
    out("upstream connections are unchanged\n");
    return 0;
  };
  return withStore(options, work, { operationTimeoutMs: timeoutMs });
}
