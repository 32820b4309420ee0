import { printTable } from "./print-table.ts";
import { type CommandPlace, withRooms } from "./with-rooms.ts";

/**
 * The commands `grants list` and `grants revoke`: what people have allowed MCP clients to do.
 * @param options.which grants of this user, of this client, or the one with this id
 * @returns the exit code; 1 when there was nothing to revoke.
 */
export function runGrants(
  action: "list" | "revoke",
  options: CommandPlace & {
    readonly which: { readonly userId?: string; readonly clientId?: string; readonly grantId?: string };
  },
): Promise<number> {
  const { which, out, err } = options;
  return withRooms(options, async ({ store }) => {
    const { authorizationServerRecords: records } = store;
    const all = await records.grants(which);
    const grants = all.filter(({ grantId }) => which.grantId === undefined || grantId === which.grantId);
    if (action === "list") {
      out(
        printTable(
          ["grant", "user", "client", "granted", "last used"],
          grants.map((grant) => [
            grant.grantId,
            grant.userId,
            grant.clientId,
            grant.createdAt,
            grant.lastUsedAt,
          ]),
        ),
      );
      return 0;
    }
    for (const { grantId, userId, clientId } of grants) {
      const audit = { userId, clientId, grantId, reason: "revoked by an operator" };
      await records.revokeGrant(grantId, { action: "grant.revoked", ...audit });
      out(`revoked ${grantId} of ${userId} (${clientId})\n`);
    }
    if (grants.length > 0) return 0;
    err("no such grant; nothing was revoked\n");
    return 1;
  });
}
