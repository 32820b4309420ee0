import { listServiceAccounts, type ServiceAccount } from "../external-tokens/service-accounts.ts";
import { makeKey } from "../external-tokens/signing-keys.ts";
import { counted } from "../util/counted.ts";
import { type CommandOptions, cliActor, withStore } from "./command.ts";

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
    const accounts: ServiceAccount[] = [];
    // Nothing here needs a former signing key: one that cannot be read must not prevent this.
    for await (const page of listServiceAccounts(context.store)) accounts.push(...page);
    const key = await makeKey("external_token", new Date());
    const ended = await context.store.endAccess(key, reason, cliActor);
    const what = [
      counted(ended.grants, "grant"),
      counted(ended.refreshTokens, "refresh token"),
      counted(ended.browserSessions, "browser session"),
      counted(ended.delegations, "delegation"),
      counted(ended.pendingAuthorizations, "pending authorization"),
      counted(ended.aggregateSessions, "session of aggregated routes", "sessions of aggregated routes"),
    ].join(", ");
    const people = counted(ended.people, "user has", "users have");
    out(`ended ${what} and all external tokens; ${people} to sign in again\n`);
    for (const account of accounts)
      out(`ended service account ${account.name}: create it again\n  ${creationOf(account)}\n`);
    out("upstream connections are unchanged\n");
    return 0;
  };
  return withStore(options, work, { operationTimeoutMs: timeoutMs });
}

/** The command that creates an account with the same routes and owner, which ends when the former one would have. */
function creationOf({ name, routeIds, ownerId, expiresAt }: ServiceAccount): string {
  const hours = (expiresAt.getTime() - Date.now()) / 3_600_000;
  const lifetime = hours < 24 ? `${Math.max(1, Math.floor(hours))}h` : `${Math.floor(hours / 24)}d`;
  return [
    ...["envoy-mcp-auth service-accounts create", quoted(name)],
    ...routeIds.map((id) => `--route ${quoted(id)}`),
    ...(ownerId === undefined ? [] : [`--owner ${quoted(ownerId)}`]),
    `--expires-in ${lifetime}`,
  ].join(" ");
}

/** One word of a POSIX shell: a provider chooses the subjects of its users. */
const quoted = (word: string) => (/^[\w./@:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
