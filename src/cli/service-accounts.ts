import { membersOf } from "../config/aggregates.ts";
import type { Config } from "../config/config.ts";
import { createServiceAccounts, type ServiceAccount } from "../external-tokens/service-accounts.ts";
import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import { aggregateOf, needsPersonsConnection, type Route } from "../model/route.ts";
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
          const found = action.routeIds.map((id) => ({ id, route: context.routes().byId(id) }));
          const unknown = found.filter(({ route }) => route?.mcp.kind !== "server").map(({ id }) => id);
          if (unknown.length > 0) {
            const known = context.config.routes
              .filter(({ mcp }) => mcp.kind === "server")
              .map(({ id }) => id);
            err(`no such server route: ${unknown.join(", ")}; known routes: ${known.join(", ")}\n`);
            return 1;
          }
          const { name, ownerId, lifetime } = action;
          const fault = ownerId === undefined ? undefined : ownerFault(ownerId, context.config);
          if (fault) {
            err(`${fault}\n`);
            return 1;
          }
          const routes = found.flatMap(({ route }) => (route ? [route] : []));
          const members = usableMembers(context.config, routes);
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

/**
 * The members of aggregated routes that a new account may use: those among its own routes, so that an operator can narrow it; if none of
 * a route's members is, all that the route has now. A member that is added later needs a new account.
 */
function usableMembers(config: Config, routes: readonly Route[]): readonly Route[] {
  const named = new Set(routes);
  const members = routes.flatMap((route) => {
    const all = membersOf(config, route).map((member) => member.route);
    const own = all.filter((member) => named.has(member));
    return own.length > 0 ? own : all;
  });
  return [...new Set(members)];
}

/** An owner must be a user who can sign in: only users have connections. */
function ownerFault(ownerId: string, { signIn }: Config): string | undefined {
  const providers = signIn.providers.map(({ id }) => id);
  if (providers.some((id) => ownerId.startsWith(`${id}/`) && ownerId.length > id.length + 1))
    return undefined;
  return `--owner ${ownerId}: not the id of a user; write PROVIDER/SUBJECT as in "connections list", with PROVIDER one of: ${providers.join(", ")}`;
}

function delegationHint(routeIds: readonly string[], ownerId: string | undefined, config: Config): string {
  const where = routeIds.join(", ");
  return ownerId === undefined
    ? `${where}: requires a user's connection and there is no --owner, so calls are denied (403) unless the server requires no token`
    : `${where}: calls are denied (403) until ${ownerId} allows them at ${config.issuer}${config.paths.prefix}/routes`;
}
