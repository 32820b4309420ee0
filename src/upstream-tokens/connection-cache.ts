import { LRUCache } from "lru-cache";
import type { ConnectionKey } from "../model/connection.ts";
import type { RequiredScopes } from "../store/required-scopes.ts";
import type { Store } from "../store/store.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Credential, TokenCaller } from "./upstream-tokens.ts";

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
  /** Concurrent callers share one read. */
  load(key: ConnectionKey, name: string): Promise<Connection>;
  /** Makes the next `load` read the store. */
  drop(name: string): void;
  close(): void;
}

/** Properties of a token whose values depend on its route and authorization server. */
const sharedTexts = [
  "routeId",
  "upstream",
  "issuer",
  "tokenEndpoint",
  "revocationEndpoint",
  "clientId",
  "redirectUri",
  "resource",
] as const satisfies (keyof UpstreamToken)[];
type SharedText = (typeof sharedTexts)[number];
const maxSharedTexts = 1_000;

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
  const texts = new LRUCache<string, string>({ max: maxSharedTexts });
  const shared = (text: string) => {
    const known = texts.get(text);
    if (known === undefined) texts.set(text, text);
    return known ?? text;
  };
  const loads = new Map<string, { promise: Promise<Connection>; current: boolean }>();

  function drop(name: string): void {
    connections.delete(name);
    const load = loads.get(name);
    if (load) load.current = false;
    loads.delete(name);
  }
  const unsubscribe = notifications.subscribe((change) => {
    if (change.table === "upstream_token") drop(change.key);
    if (change.table === "everything") {
      connections.clear();
      for (const name of loads.keys()) drop(name);
    }
  });

  /** Text that many connections have in common is kept once, and the access token only as a part of the header that is sent. */
  function compact(
    key: ConnectionKey,
    token: UpstreamToken,
    { headers }: Extract<Credential, { kind: "credential" }>,
  ) {
    const { accessToken } = token;
    const sent = headers[0]?.[1] ?? "";
    const same: Partial<Record<SharedText, string>> = {};
    for (const field of sharedTexts) if (token[field] !== undefined) same[field] = shared(token[field]);
    return {
      ...token,
      ...same,
      userId: key.userId,
      ...(sent.endsWith(accessToken) && { accessToken: sent.slice(sent.length - accessToken.length) }),
    };
  }

  async function read(key: ConnectionKey, name: string): Promise<Connection> {
    const [token, requiredScopes] = await Promise.all([
      upstreamTokens.find(key),
      upstreamTokens.findRequiredScopes(key),
    ]);
    if (token === undefined) return { name, key, requiredScopes };
    const credential = deps.credentialOf(token, name);
    return { name, key, token: compact(key, token, credential), requiredScopes, credential };
  }

  return {
    peek: (name) => (notifications.healthy() ? connections.get(name) : undefined),
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
      const load = { promise, current: true };
      loads.set(name, load);
      return promise;
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

/**
 * Records token usage in the background: the first use in the audit trail, at most once per replica, and every few minutes in the store,
 * where the user can see it.
 */
export interface Usage {
  /**
   * @param caller whose call carries the token
   * @param now ms
   */
  record(token: UpstreamToken, caller: TokenCaller, now: number): void;
}

const everyMs = 5 * 60_000;
/** Maximum concurrent writes; more are skipped, so that usage does not delay other queries. */
const maxRecording = 8;

/** @param deps.entries size of the connection cache: with fewer entries, usage would be recorded with every check. */
export function createUsage(deps: {
  store: Pick<Store, "audit" | "upstreamTokens">;
  entries: number;
  logger: Logger;
}): Usage {
  const startedAt = Date.now();
  let recording = 0;
  const recordedAt = new LRUCache<number, number>({ max: deps.entries });
  const failed = (error: unknown) => deps.logger.warn({ err: error }, "a token's use could not be recorded");
  return {
    record(token, { clientId, grantId }, now) {
      const { version, updatedAt, userId, routeId, upstream, issuer } = token;
      const before = recordedAt.get(version);
      if (before !== undefined && now - before < everyMs) return;
      recordedAt.set(version, now);
      if (recording < maxRecording) {
        recording++;
        deps.store.upstreamTokens
          .recordUse({ userId, routeId, upstream })
          .catch(failed)
          .finally(() => recording--);
      }
      // Older ones were used, or not, before this replica could know.
      if (before !== undefined || updatedAt.getTime() < startedAt) return;
      deps.store
        .audit({
          action: "upstream_token.first_used",
          userId,
          clientId,
          grantId,
          routeId,
          upstream,
          issuer,
        })
        .catch(failed);
    },
  };
}
