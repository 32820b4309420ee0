import { LRUCache } from "lru-cache";
import type { ConnectionKey } from "../model/connection.ts";
import { consentAuth, type Route } from "../model/route.ts";
import type { RequiredScopes } from "../store/required-scopes.ts";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { sharedTexts } from "../util/shared-values.ts";
import type { Credential } from "./upstream-tokens.ts";

/** A snapshot of one connection. */
export interface Connection {
  /** `connectionKeyName` of the key. */
  readonly name: string;
  readonly key: ConnectionKey;
  readonly token?: UpstreamToken;
  /** Built once per version, not per check. */
  readonly credential?: Extract<Credential, { kind: "credential" }>;
  readonly requiredScopes?: RequiredScopes;
}

/** Cache of connections in the store. Used only while the notification listener is connected; otherwise every read goes to the store. */
export interface ConnectionCache {
  /** The cached connection; if undefined, use `load`. */
  peek(name: string): Connection | undefined;
  /** Whether `load` would share a read that is under way. */
  isLoading(name: string): boolean;
  /** Concurrent callers share one read. */
  load(key: ConnectionKey, name: string): Promise<Connection>;
  /** Makes the next `load` read the store. */
  drop(name: string): void;
  /** Call before a write of this connection's token, and its `end` in any case. */
  write(connection: Connection): ConnectionWrite;
  close(): void;
}

/** Properties of a token whose values depend on its route and authorization server. */
const sharedFields = [
  "routeId",
  "upstream",
  "issuer",
  "tokenEndpoint",
  "revocationEndpoint",
  "clientId",
  "redirectUri",
  "resource",
] as const satisfies (keyof UpstreamToken)[];
type SharedField = (typeof sharedFields)[number];

/** A write of a token under way. */
export interface ConnectionWrite {
  /**
   * The connection with the token as written, without a read; now cached. Undefined: something else of the connection may have changed
   * since `write`.
   */
  written(token: UpstreamToken): Connection | undefined;
  end(): void;
}

/** @param deps.credentialOf builds the credential of a token, once per version. */
export function createConnectionCache(deps: {
  store: Pick<Store, "upstreamTokens" | "notifications">;
  entries: number;
  onEvict: () => void;
  credentialOf: (token: UpstreamToken, name: string) => Extract<Credential, { kind: "credential" }>;
}): ConnectionCache {
  const { upstreamTokens, notifications } = deps.store;
  const connections = new LRUCache<string, Connection>({
    max: deps.entries,
    dispose: (_connection, _name, reason) => {
      if (reason === "evict") deps.onEvict();
    },
  });
  const shared = sharedTexts();
  const loads = new Map<string, { promise: Promise<Connection>; current: boolean }>();

  /** Versions that notifications have named since a write began; undefined: anything may have changed. */
  const writes = new Map<string, Set<number | undefined>>();

  function forget(name: string): void {
    connections.delete(name);
    const load = loads.get(name);
    if (load) load.current = false;
    loads.delete(name);
  }
  function drop(name: string): void {
    writes.get(name)?.add(undefined);
    forget(name);
  }
  const unsubscribe = notifications.subscribe((change) => {
    if (change.table === "upstream_token") {
      writes.get(change.key)?.add(change.version);
      // Written by this process: it is what the cache holds.
      if (change.version !== undefined && connections.peek(change.key)?.token?.version === change.version)
        return;
      forget(change.key);
    }
    if (change.table === "everything") {
      connections.clear();
      for (const name of loads.keys()) forget(name);
      for (const seen of writes.values()) seen.add(undefined);
    }
  });

  /**
   * A token and its credential as they are cached: text that many connections have in common is kept once, and the access token only as
   * a part of the header that is sent.
   */
  function compact(
    key: ConnectionKey,
    token: UpstreamToken,
    name: string,
  ): Required<Pick<Connection, "token" | "credential">> {
    const credential = deps.credentialOf(token, name);
    const { accessToken } = token;
    const sent = credential.headers[0]?.[1] ?? "";
    const same: Partial<Record<SharedField, string>> = {};
    for (const field of sharedFields) if (token[field] !== undefined) same[field] = shared(token[field]);
    const kept = {
      ...token,
      ...same,
      userId: key.userId,
      ...(sent.endsWith(accessToken) && { accessToken: sent.slice(sent.length - accessToken.length) }),
    };
    return { token: kept, credential };
  }

  async function read(key: ConnectionKey, name: string): Promise<Connection> {
    const { token, requiredScopes } = await upstreamTokens.findWithRequiredScopes(key);
    if (token === undefined) return { name, key, requiredScopes };
    return { name, key, requiredScopes, ...compact(key, token, name) };
  }

  return {
    peek: (name) => (notifications.healthy() ? connections.get(name) : undefined),
    isLoading: (name) => loads.has(name) && notifications.healthy(),
    load(key, name) {
      const underWay = loads.get(name);
      if (underWay && notifications.healthy()) return underWay.promise;
      const promise = read(key, name).then(
        (connection) => {
          // A notification during the read may be about a later change.
          if (load.current && notifications.healthy()) connections.set(name, connection);
          if (loads.get(name) === load) loads.delete(name);
          return connection;
        },
        (error: unknown) => {
          if (loads.get(name) === load) loads.delete(name);
          throw error;
        },
      );
      // Two reads at once, without notifications: a change would only be known to concern the later one.
      if (underWay) underWay.current = false;
      const load = { promise, current: true };
      loads.set(name, load);
      return promise;
    },
    write(before) {
      const { name } = before;
      const seen = new Set<number | undefined>();
      if (connections.peek(name) !== before) seen.add(undefined);
      writes.set(name, seen);
      return {
        written(token) {
          // Another version was written by somebody else, maybe later.
          for (const version of seen) if (version !== token.version) return undefined;
          const connection = { ...before, ...compact(before.key, token, name) };
          forget(name);
          if (notifications.healthy()) connections.set(name, connection);
          return connection;
        },
        end() {
          if (writes.get(name) === seen) writes.delete(name);
        },
      };
    },
    drop,
    close: unsubscribe,
  };
}

/** Scopes that the upstream requires and the connection's token lacks. */
export function uncoveredScopes({ token, requiredScopes }: Connection): readonly string[] {
  if (!requiredScopes) return [];
  return token
    ? requiredScopes.scopes.filter((scope) => !token.scopes.includes(scope))
    : requiredScopes.scopes;
}

/** The scopes of the routes file, and the required scopes if there are any. */
export function scopesOf({ requiredScopes }: Connection, route: Route): readonly string[] {
  return union(consentAuth(route)?.scopes, requiredScopes?.scopes);
}

export function union(a: readonly string[] = [], b: readonly string[] = []): string[] {
  return [...new Set([...a, ...b])];
}
