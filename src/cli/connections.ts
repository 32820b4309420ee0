import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import { createUpstreamOAuth } from "../upstream-oauth/create-upstream-oauth.ts";
import { createUpstreamTokens } from "../upstream-tokens/create-upstream-tokens.ts";
import { type CommandOptions, printTable, withStore } from "./command.ts";

/**
 * The commands `connections list` and `connections revoke`. Tokens are never printed.
 * @param options.which connections of this user, to this route
 * @returns the exit code; 1 if there was nothing to revoke.
 */
export function runConnections(
  action: "list" | "revoke",
  options: CommandOptions & { readonly which: { readonly userId?: string; readonly routeId?: string } },
): Promise<number> {
  const { which, out, err } = options;
  return withStore(options, async (context) => {
    const connections = await context.store.upstreamTokens.list(which);
    if (action === "list") {
      out(
        printTable(
          ["user", "route", "upstream", "connected", "refreshed", "expires", "refreshable"],
          connections.map((one) => [
            one.userId,
            one.routeId,
            one.upstream,
            one.connectedAt,
            one.updatedAt,
            one.expiresAt,
            one.refreshable ? "yes" : "no",
          ]),
        ),
      );
      return 0;
    }
    const keys = await createSigningKeys(context);
    const upstreamOAuth = createUpstreamOAuth({ ...context, keys });
    const tokens = createUpstreamTokens({ ...context, upstreamOAuth, refreshAheadEveryMs: 0 });
    try {
      for (const connection of connections) {
        await tokens.end(connection, "revoked by an operator");
        out(`revoked ${connection.userId} -> ${connection.routeId}\n`);
      }
    } finally {
      await tokens.close();
      keys.close();
    }
    if (connections.length > 0) return 0;
    err("no such connection; nothing was revoked\n");
    return 1;
  });
}
