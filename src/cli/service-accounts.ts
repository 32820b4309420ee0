import type { Config } from "../config/config.ts";
import { requestedAccount } from "../external-tokens/requested-account.ts";
import { createServiceAccounts, type ServiceAccount } from "../external-tokens/service-accounts.ts";
import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import { aggregateOf, needsPersonsConnection } from "../model/route.ts";
import { cliActor, withStore } from "./command.ts";
import { type Listing, type ListingOptions, printPages } from "./listing.ts";

const listing: Listing<ServiceAccount> = {
  cursor: ({ userId, grantId }) => [userId, grantId],
  columns: [
    ["name", "name", (one) => one.name],
    ["routes", "route_ids", (one) => one.routeIds],
    ["owner", "owner_id", (one) => one.ownerId],
    ["delegated", "delegated_route_ids", (one) => one.delegatedRouteIds],
    ["created", "created_at", (one) => one.createdAt],
    ["expires", "expires_at", (one) => one.expiresAt],
  ],
};

/** A subcommand of `service-accounts` with its arguments. */
export type ServiceAccountAction =
  | {
      readonly kind: "create";
      readonly name: string;
      readonly routeIds: readonly string[];
      readonly ownerId?: string;
      /** Seconds. */
      readonly lifetime: number;
    }
  | { readonly kind: "list" }
  | { readonly kind: "revoke"; readonly name: string; readonly reason: string };

/**
 * The commands `service-accounts create|list|revoke`. `create` writes only the tokens to standard output.
 * @returns the exit code.
 * @throws ServiceAccountExists
 */
export function runServiceAccounts(action: ServiceAccountAction, options: ListingOptions): Promise<number> {
  const { out, err } = options;
  return withStore(options, async (context) => {
    const keys = await createSigningKeys(context);
    const accounts = createServiceAccounts({ ...context, keys, issuer: context.config.issuer });
    try {
      switch (action.kind) {
        case "create": {
          const { name, ownerId, lifetime } = action;
          const asked = requestedAccount(context.routes().config, action);
          if (!asked.ok) {
            err(`${asked.fault === "invalid_owner" ? "--owner " : ""}${asked.message}\n`);
            return 1;
          }
          const { routes, members } = asked;
          const wanted = { name, routes, members, ownerId, lifetime };
          const { account, tokens } = await accounts.create({ ...wanted, actor: cliActor });
          for (const [routeId, token] of tokens)
            out(tokens.size === 1 ? `${token}\n` : `${routeId} ${token}\n`);
          err(
            `${account.userId}, until ${account.expiresAt.toISOString()}; the tokens are not shown again. A policy must allow it: user: {is: ${account.userId}}\n`,
          );
          if (routes.some((route) => aggregateOf(route)))
            err(
              `members of aggregated routes that it may use: ${members.map(({ id }) => id).join(", ") || "none"}\n`,
            );
          const needing = [...routes, ...members].filter(needsPersonsConnection).map(({ id }) => id);
          const waiting = [...new Set(needing)];
          if (waiting.length > 0) err(`${delegationHint(waiting, ownerId, context.config)}\n`);
          return 0;
        }
        case "list": {
          const [userId = "", grantId = ""] = options.after ?? [];
          await printPages(options, listing, accounts.list(options.after && { userId, grantId }));
          return 0;
        }
        case "revoke":
          if (await accounts.revoke(action.name, { reason: action.reason, actor: cliActor })) {
            out(`revoked service-account/${action.name}\n`);
            return 0;
          }
          err(`there is no service account "${action.name}"\n`);
          return 1;
      }
    } finally {
      keys.close();
    }
  });
}

function delegationHint(routeIds: readonly string[], ownerId: string | undefined, config: Config): string {
  const where = routeIds.join(", ");
  return ownerId === undefined
    ? `${where}: requires a user's connection and there is no --owner, so calls are denied (403) unless the server requires no token`
    : `${where}: calls are denied (403) until ${ownerId} allows them at ${config.issuer}${config.paths.prefix}/routes`;
}
