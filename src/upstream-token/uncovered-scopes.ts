import type { Connection } from "./connection.ts";

/** Scopes that the upstream has demanded and the connection's token lacks. */
export function uncoveredScopes({ token, demand }: Connection): readonly string[] {
  if (!demand) return [];
  return token ? demand.scopes.filter((scope) => !token.scopes.includes(scope)) : demand.scopes;
}
