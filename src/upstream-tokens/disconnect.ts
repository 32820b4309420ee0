import { isBelowUpstream } from "../config/endpoint.ts";
import { type ConnectionKey, connectionKeyName } from "../model/connection.ts";
import type { Route } from "../model/route.ts";
import type { DisconnectScope } from "../store/disconnects.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import type { ConnectionCache } from "./connections.ts";
import type { Refresher } from "./refresher.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Ends connections: one that its person gives up, all of a person who has gone, those of routes that have gone. */
export interface Disconnect {
  /** Deleted here in any case, revoked at the upstream where it offers that. False: there was none. */
  end(key: ConnectionKey, reason?: string): Promise<boolean>;
  /** That one, and those to other endpoints of the route. */
  endAllTo(key: ConnectionKey, route: Route): Promise<boolean>;
  /** How many there were. */
  endAllOf(userId: string): Promise<number>;
  /** Ends connections whose route has been gone for the grace period; returns how many. */
  endOrphans(): Promise<number>;
}

/** A route that vanished by mistake comes back with its connections, within this time. */
const graceSeconds = 86_400;
const batch = 100;

export function createDisconnect(
  deps: UpstreamTokensDeps & { cache: ConnectionCache; refresher: Pick<Refresher, "endBackoff"> },
): Disconnect {
  const { store, upstreamOAuth, routes, cache, refresher: renewer } = deps;
  /** Routes as last seen, by id and upstream: what revokes at an upstream may have left the file with its route. */
  const lastSeen = new Map<string, Route>();
  const placeOf = ({ routeId, upstream }: Pick<ConnectionKey, "routeId" | "upstream">) =>
    `${routeId} ${upstream}`;

  function remember(): void {
    for (const route of routes().config.routes)
      lastSeen.set(placeOf({ routeId: route.id, upstream: route.upstream }), route);
  }

  /** @param disconnected as of the store's `delete` */
  async function forget(key: ConnectionKey, reason?: string, disconnected?: DisconnectScope) {
    remember();
    const { userId, routeId, upstream } = key;
    const token = await store.upstreamTokens.delete(
      key,
      { action: "upstream_token.disconnected", userId, routeId, upstream, reason },
      disconnected,
    );
    await store.upstreamTokens.clearRequiredScopes(key);
    const name = connectionKeyName(key);
    cache.drop(name);
    renewer.endBackoff(name);
    return token;
  }

  async function revoke(token: UpstreamToken): Promise<void> {
    const { userId, routeId, upstream, issuer } = token;
    if (await upstreamOAuth.revoke(token, routeOf(token) ?? standInFor(token)))
      await store.audit({ action: "upstream_token.revoked", userId, routeId, upstream, issuer });
  }

  async function end(...ending: Parameters<typeof forget>): Promise<boolean> {
    const token = await forget(...ending);
    if (token) await revoke(token);
    return token !== undefined;
  }

  function routeOf(key: ConnectionKey): Route | undefined {
    const route = routes().byId(key.routeId);
    return lastSeen.get(placeOf(key)) ?? (route && isBelowUpstream(route, key.upstream) ? route : undefined);
  }

  async function endEach(
    keys: readonly ConnectionKey[],
    reason: string,
    disconnected?: DisconnectScope,
  ): Promise<number> {
    let ended = 0;
    for (const key of keys) if (await end(key, reason, disconnected)) ended++;
    return ended;
  }

  return {
    end: (key, reason) => end(key, reason, "connection"),
    async endAllTo(key, route) {
      const { userId, routeId } = key;
      // First: no other comes into being after this.
      const tokens = [await forget(key, undefined, "route")];
      const apart = (await store.upstreamTokens.list({ userId, routeId })).filter(({ upstream }) =>
        isBelowUpstream(route, upstream),
      );
      for (const { upstream } of apart) tokens.push(await forget({ userId, routeId, upstream }));
      for (const token of tokens) if (token) await revoke(token);
      return tokens[0] !== undefined || apart.length > 0;
    },
    async endAllOf(userId) {
      const reason = "the user no longer has access";
      await store.delegations.endAllOf(userId, reason);
      return endEach(await store.upstreamTokens.listForUser(userId), reason, "connection");
    },
    async endOrphans() {
      remember();
      const places = routes().config.routes.map(({ id, upstream }) => ({ routeId: id, upstream }));
      const orphans = await store.upstreamTokens.orphans(
        places,
        deps.orphanGraceSeconds ?? graceSeconds,
        batch,
      );
      return endEach(orphans, "the route was removed");
    },
  };
}

/** All that is known of a route nobody here has seen: enough for clients that registered themselves. */
function standInFor({ routeId, upstream, redirectUri }: UpstreamToken): Route {
  const { origin, host } = new URL(redirectUri ?? upstream);
  return {
    id: routeId,
    name: routeId,
    description: "",
    origin,
    host,
    prefix: "/",
    resource: origin,
    to: [upstream],
    upstream,
    upstreamHash: "",
    mcp: {
      kind: "server",
      path: "/",
      maxRequestBytes: 0,
      requestHeaders: { pass: [], set: [], given: false },
      auth: { mode: "consent", type: "oauth", authorizationUrlParams: {} },
    },
    passIdentityHeaders: false,
    enabled: false,
  };
}
