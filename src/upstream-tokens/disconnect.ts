import { isBelowUpstream } from "../config/paths.ts";
import { type ConnectionKey, connectionKeyName } from "../model/connection.ts";
import type { Route } from "../model/route.ts";
import type { DisconnectScope } from "../store/disconnects.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import type { ConnectionCache } from "./connection-cache.ts";
import { createOrphans } from "./orphans.ts";
import type { Refresher } from "./refresher.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** Ends connections: one that its user disconnects, all of a user who was removed, and those of removed routes. */
export interface Disconnect {
  /** Deletes the connection, and revokes its tokens if the authorization server supports that. False: there was none. */
  end(key: ConnectionKey, reason?: string, actor?: string): Promise<boolean>;
  /** Ends this connection and those to other endpoints of the route. */
  endAllTo(key: ConnectionKey, route: Route): Promise<boolean>;
  /** Ends all connections of a user; returns how many. */
  endAllOf(userId: string): Promise<number>;
  /** Ends connections whose route was removed longer than the grace period ago; returns how many. */
  endOrphans(): Promise<number>;
}

export function createDisconnect(
  deps: UpstreamTokensDeps & { cache: ConnectionCache; refresher: Pick<Refresher, "endBackoff"> },
): Disconnect {
  const { store, upstreamOAuth, routes, cache, refresher } = deps;
  /** Routes as last seen, by id and upstream: revocation needs the settings of a removed route. */
  const lastSeen = new Map<string, Route>();
  const routeKey = ({ routeId, upstream }: Pick<ConnectionKey, "routeId" | "upstream">) =>
    `${routeId} ${upstream}`;

  function remember(): void {
    for (const route of routes().config.routes)
      lastSeen.set(routeKey({ routeId: route.id, upstream: route.upstream }), route);
  }

  /** @param disconnected as in the store's `delete` */
  async function forget(key: ConnectionKey, reason?: string, disconnected?: DisconnectScope, actor?: string) {
    remember();
    const { userId, routeId, upstream } = key;
    const token = await store.upstreamTokens.delete(
      key,
      { action: "upstream_token.disconnected", actor, userId, routeId, upstream, reason },
      disconnected,
    );
    await store.upstreamTokens.clearRequiredScopes(key);
    const name = connectionKeyName(key);
    cache.drop(name);
    refresher.endBackoff(name);
    return token;
  }

  async function revoke(token: UpstreamToken): Promise<void> {
    const { userId, routeId, upstream, issuer } = token;
    if (await upstreamOAuth.revoke(token, routeOf(token) ?? minimalRoute(token)))
      await store.audit({ action: "upstream_token.revoked", userId, routeId, upstream, issuer });
  }

  async function end(...ending: Parameters<typeof forget>): Promise<boolean> {
    const token = await forget(...ending);
    if (token) await revoke(token);
    return token !== undefined;
  }

  function routeOf(key: ConnectionKey): Route | undefined {
    const route = routes().byId(key.routeId);
    return lastSeen.get(routeKey(key)) ?? (route && isBelowUpstream(route, key.upstream) ? route : undefined);
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

  const orphans = createOrphans(deps, (key) => end(key, "the route was removed"));

  return {
    end: (key, reason, actor) => end(key, reason, "connection", actor),
    async endAllTo(key, route) {
      const { userId, routeId } = key;
      // First, so that no other connection is created afterwards.
      const tokens = [await forget(key, undefined, "route")];
      const ofEndpoints = (await store.upstreamTokens.list({ userId, routeId })).filter(({ upstream }) =>
        isBelowUpstream(route, upstream),
      );
      for (const { upstream } of ofEndpoints) tokens.push(await forget({ userId, routeId, upstream }));
      for (const token of tokens) if (token) await revoke(token);
      return tokens[0] !== undefined || ofEndpoints.length > 0;
    },
    async endAllOf(userId) {
      const reason = "the user no longer has access";
      await store.delegations.endAllOf(userId, reason);
      let ended = 0;
      for await (const page of store.upstreamTokens.pages({ userId }))
        ended += await endEach(page, reason, "connection");
      return ended;
    },
    endOrphans() {
      remember();
      return orphans.end();
    },
  };
}

/** A minimal route if this replica has never seen it: enough for dynamically registered clients. */
function minimalRoute({ routeId, upstream, redirectUri }: UpstreamToken): Route {
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
      consent: "challenge",
      requestHeaders: { pass: [], set: [], given: false },
      auth: { mode: "consent", type: "oauth", authorizationUrlParams: {} },
    },
    passIdentityHeaders: false,
    enabled: false,
  };
}
