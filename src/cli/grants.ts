import type { Store } from "../store/store.ts";
import { type CommandOptions, printTable, withStore } from "./command.ts";

/**
 * The commands `grants list` and `grants revoke`. Revoking all grants of a user signs the user out first: in a browser that is still
 * signed in, the next client could get a grant immediately.
 * @param options.which grants of this user, of this client, or the one with this id
 * @returns the exit code; 1 if there was nothing to revoke.
 */
export function runGrants(
  action: "list" | "revoke",
  options: CommandOptions & {
    readonly which: { readonly userId?: string; readonly clientId?: string; readonly grantId?: string };
  },
): Promise<number> {
  const { which, out, err } = options;
  return withStore(options, async ({ store, routes }) => {
    const { authorizationServerRecords: records } = store;
    const reason = "revoked by an operator";
    const everything = action === "revoke" && !which.grantId && !which.clientId;
    const signedOut = everything && which.userId ? await signOut(store, which.userId, reason) : false;
    if (signedOut) out(`signed out ${which.userId}\n`);
    const all = await records.grants(which);
    const grants = all.filter(({ grantId }) => which.grantId === undefined || grantId === which.grantId);
    if (action === "list") {
      const members = await store.grantedMembers.ofGrants(grants.map(({ grantId }) => grantId));
      // A route that has moved to another upstream since is not allowed any more.
      const membersOf = (grantId: string) =>
        [...(members.get(grantId) ?? [])]
          .flatMap(([routeId, upstream]) => (routes().byId(routeId)?.upstream === upstream ? [routeId] : []))
          .toSorted();
      out(
        printTable(
          ["grant", "user", "client", "granted", "last used", "members"],
          grants.map((grant) => [
            grant.grantId,
            grant.userId,
            grant.clientId,
            grant.createdAt,
            grant.lastUsedAt,
            membersOf(grant.grantId).join(",") || undefined,
          ]),
        ),
      );
      return 0;
    }
    for (const { grantId, userId, clientId } of grants) {
      const audit = { userId, clientId, grantId, reason };
      await records.revokeGrant(grantId, { action: "grant.revoked", ...audit });
      out(`revoked ${grantId} of ${userId} (${clientId})\n`);
    }
    if (grants.length > 0 || signedOut) return 0;
    err("no such grant; nothing was revoked\n");
    return 1;
  });
}

/** Ends all browser sessions of the user and the sign-in session. False if the user has never signed in. */
async function signOut(store: Store, userId: string, reason: string): Promise<boolean> {
  if (!(await store.signInSessions.find(userId))) return false;
  await store.browserSessions.endForUser(userId, { action: "person.signed_out", userId, reason });
  await store.signInSessions.delete(userId);
  return true;
}
