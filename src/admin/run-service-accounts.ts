import { createServiceAccounts } from "../external-token/create-service-accounts.ts";
import { createSigningKeys } from "../external-token/create-signing-keys.ts";
import { printTable } from "./print-table.ts";
import { type CommandPlace, withRooms } from "./with-rooms.ts";

/** What is to be done with service accounts (F2.4). */
export type ServiceAccountAction =
  | {
      readonly kind: "create";
      readonly name: string;
      readonly routeIds: readonly string[];
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
export function runServiceAccounts(action: ServiceAccountAction, place: CommandPlace): Promise<number> {
  const { out, err } = place;
  return withRooms(place, async (rooms) => {
    const keys = await createSigningKeys(rooms);
    const accounts = createServiceAccounts({ ...rooms, keys, issuer: rooms.config.issuer });
    try {
      switch (action.kind) {
        case "create": {
          const found = action.routeIds.map((id) => ({ id, route: rooms.routes().byId(id) }));
          const unknown = found.filter(({ route }) => route?.mcp.kind !== "server").map(({ id }) => id);
          if (unknown.length > 0) {
            const known = rooms.config.routes.filter(({ mcp }) => mcp.kind === "server").map(({ id }) => id);
            err(`no such server route: ${unknown.join(", ")}; there are: ${known.join(", ")}\n`);
            return 1;
          }
          const { name, lifetime } = action;
          const routes = found.flatMap(({ route }) => (route ? [route] : []));
          const { account, tokens } = await accounts.create({ name, routes, lifetime });
          for (const [routeId, token] of tokens)
            out(tokens.size === 1 ? `${token}\n` : `${routeId} ${token}\n`);
          err(
            `${account.userId}, until ${account.expiresAt.toISOString()}; the tokens are shown this once. A policy must let it in: user: {is: ${account.userId}}\n`,
          );
          return 0;
        }
        case "list":
          out(
            printTable(
              ["name", "routes", "created", "expires"],
              (await accounts.list()).map((account) => [
                account.name,
                account.routeIds.join(","),
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
