import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import type { ConnectionSummary } from "../store/upstream-tokens.ts";
import { createUpstreamOAuth } from "../upstream-oauth/create-upstream-oauth.ts";
import { createUpstreamTokens } from "../upstream-tokens/create-upstream-tokens.ts";
import { withStore } from "./command.ts";
import { type Columns, type ListingOptions, printPages } from "./listing.ts";

const columns: Columns<ConnectionSummary> = [
  ["user", "user_id", (one) => one.userId],
  ["route", "route_id", (one) => one.routeId],
  ["upstream", "upstream", (one) => one.upstream],
  ["connected", "connected_at", (one) => one.connectedAt],
  ["refreshed", "refreshed_at", (one) => one.updatedAt],
  ["expires", "expires_at", (one) => one.expiresAt],
  ["refreshable", "refreshable", (one) => one.refreshable],
];

/**
 * The commands `connections list` and `connections revoke`. Tokens are never printed.
 * @param options.which connections of this user, to this route
 * @returns the exit code; 1 if there was nothing to revoke.
 */
export function runConnections(
  action: "list" | "revoke",
  options: ListingOptions & { readonly which: { readonly userId?: string; readonly routeId?: string } },
): Promise<number> {
  const { which, out, err } = options;
  return withStore(options, async (context) => {
    const pages = context.store.upstreamTokens.pages(which);
    if (action === "list") {
      await printPages(options, columns, pages);
      return 0;
    }
    const keys = await createSigningKeys(context);
    const upstreamOAuth = createUpstreamOAuth({ ...context, keys });
    const tokens = createUpstreamTokens({ ...context, upstreamOAuth, refreshAheadEveryMs: 0 });
    let any = false;
    try {
      for await (const connections of pages)
        for (const connection of connections) {
          await tokens.end(connection, "revoked by an operator", "cli");
          out(`revoked ${connection.userId} -> ${connection.routeId}\n`);
          any = true;
        }
    } finally {
      await tokens.close();
      keys.close();
    }
    if (any) return 0;
    err("no such connection; nothing was revoked\n");
    return 1;
  });
}
