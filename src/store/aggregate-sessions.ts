import { type Selectable, sql, type Transaction } from "kysely";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { hashedHandle } from "./hashed-handle.ts";
import { type Notifications, sessionChannel } from "./notifications/notifications.ts";
import { createNotifiedCache } from "./notified-cache.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** An MCP session of a client with an aggregated route (`Mcp-Session-Id`, MCP 2025-11-25, "Session Management"). */
export interface AggregateSession<State> {
  /** The session id, which is secret; the table stores only its SHA-256. */
  readonly handle: string;
  readonly userId: string;
  /** The session ends with this grant. */
  readonly grantId: string;
  readonly routeId: string;
  /** Starts at 1, incremented with every change. */
  readonly version: number;
  readonly expiresAt: Date;
  /** JSON; encrypted at rest. Contains the session ids of members. */
  readonly state: State;
}

/** A session as it is cached, by the hash of its handle. */
interface CachedSession extends Omit<AggregateSession<unknown>, "handle"> {
  /** Of `state` in memory, estimated. */
  readonly bytes: number;
}

export interface AggregateSessions {
  /**
   * @param keepPerGrant maximum per grant; the ones that expire first are dropped
   * @returns what the dropped sessions held
   */
  create<State>(session: Omit<AggregateSession<State>, "version">, keepPerGrant: number): Promise<State[]>;
  /**
   * Undefined: never existed, expired, ended with its grant, or forged. The caller compares user, grant and route.
   * @param from `store`: as it is now; otherwise cached while change notifications arrive
   */
  find<State>(handle: string, from?: "cache" | "store"): Promise<AggregateSession<State> | undefined>;
  /** The versions of those of the sessions that have not ended, by handle. Nothing is decrypted: for comparison only. */
  versions(
    handles: readonly string[],
  ): Promise<ReadonlyMap<string, Pick<AggregateSession<unknown>, "version" | "expiresAt">>>;
  /** Replaces exactly this version. False: it was changed concurrently, or has ended; find it again. */
  update<State>(handle: string, version: number, state: State, expiresAt: Date): Promise<boolean>;
  /** False: there was none. */
  remove(handle: string): Promise<boolean>;
}

const table = "aggregate_session";
/** Of cached sessions, bytes: an estimate, which JSON of empty objects exceeds four times. */
const maxCachedBytes = 32 * 1024 * 1024;
/** Sessions that one statement asks about. */
const batchSize = 1_000;
const unexpired = sql<boolean>`expires_at > now()`;

/** Sessions of aggregated routes, found by the hash of their id on any replica. */
export function aggregateSessions(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  notifications: Notifications,
): AggregateSessions {
  const { clock } = database;
  async function opened(row: Selectable<Tables["aggregate_session"]>): Promise<CachedSession> {
    return {
      userId: row.user_id,
      grantId: row.grant_id,
      routeId: row.route_id,
      version: row.version,
      expiresAt: clock.fromDatabase(row.expires_at),
      state: await decrypt(table, [row.handle_name], row.sealed),
      bytes: 4 * row.sealed.length,
    };
  }

  /** Each request needs its session, which rarely changes. */
  const cache = createNotifiedCache<CachedSession>({
    notifications,
    async read(name) {
      const found = await database.read("aggregate_session.find", (db) =>
        db.selectFrom(table).selectAll().where("handle_name", "=", name).where(unexpired).executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && opened(row);
    },
    changedKey: (change) => (change.table === "aggregate_session" ? change.name : undefined),
    groups: {
      of: ({ grantId }) => grantId,
      changed: (change) => (change.table === "grant" ? change.grantId : undefined),
    },
    sizeOf: ({ bytes }) => 1024 + bytes,
    limits: { bytes: maxCachedBytes },
  });

  /** The type is the caller's, as of `decrypt`. */
  function ofHandle<State>(
    handle: string,
    cached: CachedSession | undefined,
  ): AggregateSession<State> | undefined {
    if (cached === undefined || cached.expiresAt.getTime() <= Date.now()) return undefined;
    const { bytes: _, state, ...rest } = cached;
    return { handle, ...rest, state: state as State };
  }

  /** In the caller's transaction. */
  async function notifyChanged(tx: Transaction<Tables>, name: string): Promise<void> {
    await sql`select pg_notify(${sessionChannel}, ${name})`.execute(tx);
  }

  return {
    async create<State>(session: Omit<AggregateSession<State>, "version">, keepPerGrant: number) {
      await macs.ready();
      const values = {
        handle_name: hashedHandle(session.handle),
        user_id: session.userId,
        grant_id: session.grantId,
        route_id: session.routeId,
        version: 1,
        expires_at: clock.toDatabase(session.expiresAt),
      };
      const sealed = await encrypt(table, [values.handle_name], session.state);
      const dropped = await database.write("aggregate_session.create", async (tx) => {
        await tx
          .insertInto(table)
          .values({ ...values, ...sealed, mac: macs.sign(table, values) })
          .execute();
        const older = await tx
          .deleteFrom(table)
          .where("handle_name", "in", (query) =>
            query
              .selectFrom(table)
              .select("handle_name")
              .where("grant_id", "=", session.grantId)
              .where("handle_name", "<>", values.handle_name)
              .orderBy("expires_at", "desc")
              .offset(Math.max(keepPerGrant - 1, 0)),
          )
          .returningAll()
          .execute();
        for (const { handle_name: name } of older) await notifyChanged(tx, name);
        return older;
      });
      for (const { handle_name: name } of dropped) cache.forget(name);
      // A forged row says nothing that is to be believed, and one that cannot be read does not keep the new session from being used.
      const states = await Promise.allSettled(
        dropped
          .filter((row) => macs.accepts(table, row))
          .map(({ handle_name: name, sealed: old }) => decrypt<State>(table, [name], old)),
      );
      return states.flatMap((read) => (read.status === "fulfilled" ? [read.value] : []));
    },

    async find<State>(handle: string, from = "cache") {
      const name = hashedHandle(handle);
      return ofHandle<State>(handle, await (from === "store" ? cache.read(name) : cache.find(name)));
    },

    async versions(handles) {
      const found = new Map<string, Pick<AggregateSession<unknown>, "version" | "expiresAt">>();
      for (let at = 0; at < handles.length; at += batchSize) {
        const names = new Map(
          handles.slice(at, at + batchSize).map((handle) => [hashedHandle(handle), handle]),
        );
        const rows = await database.read("aggregate_session.versions", (db) =>
          db
            .selectFrom(table)
            .select(["handle_name", "version", "expires_at"])
            .where("handle_name", "in", [...names.keys()])
            .where(unexpired)
            .execute(),
        );
        for (const { handle_name: name, version, expires_at: expires } of rows)
          found.set(names.get(name) ?? "", { version, expiresAt: clock.fromDatabase(expires) });
      }
      return found;
    },

    async update(handle, version, state, expiresAt) {
      await macs.ready();
      const name = hashedHandle(handle);
      const sealed = await encrypt(table, [name], state);
      const done = await database.write("aggregate_session.update", async (tx) => {
        const row = await tx
          .selectFrom(table)
          .selectAll()
          .where("handle_name", "=", name)
          .where("version", "=", version)
          .where(unexpired)
          .forUpdate()
          .executeTakeFirst();
        // A forged row must not get a valid MAC.
        if (row === undefined || !macs.accepts(table, row)) return false;
        const changed = { version: version + 1, expires_at: clock.toDatabase(expiresAt) };
        await tx
          .updateTable(table)
          .set({ ...changed, ...sealed, mac: macs.sign(table, { ...row, ...changed }) })
          .where("handle_name", "=", name)
          .execute();
        await notifyChanged(tx, name);
        return true;
      });
      cache.forget(name);
      return done;
    },

    async remove(handle) {
      const name = hashedHandle(handle);
      const removed = await database.write("aggregate_session.remove", async (tx) => {
        const rows = await tx
          .deleteFrom(table)
          .where("handle_name", "=", name)
          .returning("handle_name")
          .execute();
        if (rows.length > 0) await notifyChanged(tx, name);
        return rows.length > 0;
      });
      cache.forget(name);
      return removed;
    },
  };
}
