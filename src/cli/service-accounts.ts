import type { Config } from "../config/config.ts";
import { createServiceAccounts } from "../external-tokens/service-accounts.ts";
import { createSigningKeys } from "../external-tokens/signing-keys.ts";
import { needsPersonsConnection } from "../model/route.ts";
import { type CommandOptions, printTable, withStore } from "./command.ts";

/** What is to be done with service accounts. */
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
  | { readonly kind: "revoke"; readonly name: string };

/**
 * The commands `service-accounts create|list|revoke`. New tokens are the only thing on standard output; the rest goes beside it.
 * @returns the exit code.
 * @throws ServiceAccountExists
 */
export function runServiceAccounts(action: ServiceAccountAction, place: CommandOptions): Promise<number> {
  const { out, err } = place;
  return withStore(place, async (context) => {
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
            err(`no such server route: ${unknown.join(", ")}; there are: ${known.join(", ")}\n`);
            return 1;
          }
          const { name, ownerId, lifetime } = action;
          const wrong = ownerId === undefined ? undefined : noOwner(ownerId, context.config);
          if (wrong) {
            err(`${wrong}\n`);
            return 1;
          }
          const routes = found.flatMap(({ route }) => (route ? [route] : []));
          const { account, tokens } = await accounts.create({ name, routes, ownerId, lifetime });
          for (const [routeId, token] of tokens)
            out(tokens.size === 1 ? `${token}\n` : `${routeId} ${token}\n`);
          err(
            `${account.userId}, until ${account.expiresAt.toISOString()}; the tokens are shown this once. A policy must let it in: user: {is: ${account.userId}}\n`,
          );
          const waiting = routes.filter(needsPersonsConnection).map(({ id }) => id);
          if (waiting.length > 0) err(`${ownersTurn(waiting, ownerId, context.config)}\n`);
          return 0;
        }
        case "list":
          out(
            printTable(
              ["name", "routes", "owner", "delegated", "created", "expires"],
              (await accounts.list()).map((account) => [
                account.name,
                account.routeIds.join(","),
                account.ownerId,
                account.delegatedRouteIds.join(",") || undefined,
                account.createdAt,
                account.expiresAt,
              ]),
            ),
          );
          return 0;
        case "revoke":
          if (await accounts.revoke(action.name)) {
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

/** Whoever may consent signs in here: nobody else has connections. */
function noOwner(ownerId: string, { signIn }: Config): string | undefined {
  const providers = signIn.providers.map(({ id }) => id);
  if (providers.some((id) => ownerId.startsWith(`${id}/`) && ownerId.length > id.length + 1))
    return undefined;
  return `--owner ${ownerId}: nobody signs in by this id; write PROVIDER/SUBJECT, as "connections list" does, with PROVIDER one of: ${providers.join(", ")}`;
}

function ownersTurn(routeIds: readonly string[], ownerId: string | undefined, config: Config): string {
  const where = routeIds.join(", ");
  return ownerId === undefined
    ? `${where}: needs a person's connection and there is no --owner, so calls are refused (403) unless the server asks for no token`
    : `${where}: calls are refused (403) until ${ownerId} allows them at ${config.issuer}${config.paths.prefix}/routes`;
}
