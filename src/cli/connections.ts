import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import type { ConnectionSummary } from "../store/upstream-tokens.ts";
import { createUpstreamOAuth } from "../upstream-oauth/create-upstream-oauth.ts";
import type { Revocation } from "../upstream-oauth/upstream-oauth.ts";
import { createUpstreamTokens } from "../upstream-tokens/create-upstream-tokens.ts";
import { cliActor, withStore } from "./command.ts";
import { type Listing, type ListingOptions, printPages } from "./listing.ts";

const listing: Listing<ConnectionSummary> = {
  cursor: ({ userId, routeId, upstream }) => [userId, routeId, upstream],
  columns: [
    ["user", "user_id", (one) => one.userId],
    ["route", "route_id", (one) => one.routeId],
    ["upstream", "upstream", (one) => one.upstream],
    ["connected", "connected_at", (one) => one.connectedAt],
    ["refreshed", "refreshed_at", (one) => one.updatedAt],
    ["expires", "expires_at", (one) => one.expiresAt],
    ["refreshable", "refreshable", (one) => one.refreshable],
  ],
};

/**
 * The commands `connections list` and `connections revoke`. Tokens are never printed.
 * @param options.which connections of this user, to this route
 * @param options.reason for the audit trail, when revoking
 * @returns the exit code; 1 if there was nothing to revoke.
 */
export function runConnections(
  action: "list" | "revoke",
  options: ListingOptions & {
    readonly which: { readonly userId?: string; readonly routeId?: string };
    readonly reason?: string;
  },
): Promise<number> {
  const { which, reason, out, err } = options;
  return withStore(options, async (context) => {
    if (action === "list") {
      const [userId = "", routeId = "", upstream = ""] = options.after ?? [];
      const after = options.after && { userId, routeId, upstream };
      await printPages(options, listing, context.store.upstreamTokens.pages(which, after));
      return 0;
    }
    const pages = context.store.upstreamTokens.pages(which);
    const keys = await createSigningKeys(context);
    const upstreamOAuth = createUpstreamOAuth({ ...context, keys });
    const tokens = createUpstreamTokens({ ...context, upstreamOAuth, refreshAheadEveryMs: 0 });
    let any = false;
    try {
      for await (const connections of pages)
        for (const connection of connections) {
          const ended = await tokens.end(connection, { reason, actor: cliActor });
          // Another process may have ended it first.
          if (ended) out(`${report(connection, ended)}\n`);
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

/** A token that was not revoked at its server stays valid there, and only its owner or the server's operator can end it. */
function report({ userId, routeId }: ConnectionSummary, revocation: Revocation): string {
  if (revocation.revoked) return `revoked ${userId} -> ${routeId}`;
  const { issuer, reason } = revocation;
  return `deleted ${userId} -> ${routeId}; not revoked at ${issuer} (${reason}): revoke it there`;
}
