import type { Selectable } from "kysely";
import { sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { hashedHandle } from "./hashed-handle.ts";
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

export interface AggregateSessions {
  /**
   * @param keepPerGrant maximum per grant; the ones that expire first are dropped
   * @returns what the dropped sessions held
   */
  create<State>(session: Omit<AggregateSession<State>, "version">, keepPerGrant: number): Promise<State[]>;
  /** Undefined: never existed, expired, ended with its grant, or forged. The caller compares user, grant and route. */
  find<State>(handle: string): Promise<AggregateSession<State> | undefined>;
  /** Replaces exactly this version. False: it was changed concurrently, or has ended; find it again. */
  update<State>(handle: string, version: number, state: State, expiresAt: Date): Promise<boolean>;
  /** False: there was none. */
  remove(handle: string): Promise<boolean>;
}

const table = "aggregate_session";
/** Bounds of decrypted sessions in memory. */
const maxKnownBytes = 16 * 1024 * 1024;
const unexpired = sql<boolean>`expires_at > now()`;

/** Sessions of aggregated routes, found by the hash of their id on any replica. */
export function aggregateSessions(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
): AggregateSessions {
  const { clock } = database;
  /** A session is read with every request, and rarely changes: what is encrypted alike need not be decrypted again. */
  const known = new LRUCache<string, { readonly sealed: string; readonly state: unknown }>({
    maxSize: maxKnownBytes,
    sizeCalculation: ({ sealed }) => 4 * sealed.length,
  });

  async function decrypted<State>({
    handle_name: name,
    sealed,
  }: Pick<Selectable<Tables["aggregate_session"]>, "handle_name" | "sealed">): Promise<State> {
    const before = known.get(name);
    // Encrypted again by every write, with a fresh key: equal ciphertexts are the same write. The type is the caller's, as of `decrypt`.
    if (before?.sealed === sealed) return before.state as State;
    const state = await decrypt<State>(table, [name], sealed);
    known.set(name, { sealed, state });
    return state;
  }

  async function read<State>(
    handle: string,
    row: Selectable<Tables["aggregate_session"]>,
  ): Promise<AggregateSession<State>> {
    return {
      handle,
      userId: row.user_id,
      grantId: row.grant_id,
      routeId: row.route_id,
      version: row.version,
      expiresAt: clock.fromDatabase(row.expires_at),
      state: await decrypted<State>(row),
    };
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
        return tx
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
      });
      // A forged row says nothing that is to be believed, and one that cannot be read does not keep the new session from being used.
      const states = await Promise.allSettled(
        dropped
          .filter((row) => macs.accepts(table, row))
          .map(({ handle_name: name, sealed: old }) => decrypt<State>(table, [name], old)),
      );
      return states.flatMap((read) => (read.status === "fulfilled" ? [read.value] : []));
    },

    async find<State>(handle: string) {
      const found = await database.read("aggregate_session.find", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("handle_name", "=", hashedHandle(handle))
          .where(unexpired)
          .executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && read<State>(handle, row);
    },

    async update(handle, version, state, expiresAt) {
      await macs.ready();
      const name = hashedHandle(handle);
      const sealed = await encrypt(table, [name], state);
      return database.write("aggregate_session.update", async (tx) => {
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
        return true;
      });
    },

    async remove(handle) {
      const removed = await database.writeAtOnce("aggregate_session.remove", (db) =>
        db
          .deleteFrom(table)
          .where("handle_name", "=", hashedHandle(handle))
          .returning("handle_name")
          .execute(),
      );
      return removed.length > 0;
    },
  };
}
