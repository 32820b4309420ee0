import { membersOf } from "../config/aggregates.ts";
import type { Config } from "../config/config.ts";
import type { Route } from "../model/route.ts";
import { printable } from "../util/plain-text.ts";

/** What a new service account may use, or why it cannot be created. */
export type RequestedAccount =
  | { readonly ok: true; readonly routes: readonly Route[]; readonly members: readonly Route[] }
  | { readonly ok: false; readonly fault: "unknown_route" | "invalid_owner"; readonly message: string };

/**
 * Checks what an operator asks for.
 * @param asked.ownerId the person who may let it use their connections
 */
export function requestedAccount(
  config: Config,
  asked: { readonly routeIds: readonly string[]; readonly ownerId?: string },
): RequestedAccount {
  const found = [...new Set(asked.routeIds)].map((id) => ({
    id,
    route: config.routes.find((one) => one.id === id),
  }));
  const unknown = found.filter(({ route }) => route?.mcp.kind !== "server").map(({ id }) => id);
  if (unknown.length > 0) {
    const known = config.routes.filter(({ mcp }) => mcp.kind === "server").map(({ id }) => id);
    const message = `no such server route: ${unknown.join(", ")}; known routes: ${known.join(", ")}`;
    return { ok: false, fault: "unknown_route", message };
  }
  const message = asked.ownerId === undefined ? undefined : ownerFault(asked.ownerId, config);
  if (message !== undefined) return { ok: false, fault: "invalid_owner", message };
  const routes = found.flatMap(({ route }) => (route ? [route] : []));
  return { ok: true, routes, members: usableMembers(config, routes) };
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
  const isOne = !/\p{Cc}/u.test(ownerId) && ownerId.isWellFormed();
  if (isOne && providers.some((id) => ownerId.startsWith(`${id}/`) && ownerId.length > id.length + 1))
    return undefined;
  return `${printable(ownerId)}: not the id of a user; write PROVIDER/SUBJECT as in "connections list", with PROVIDER one of: ${providers.join(", ")}`;
}
