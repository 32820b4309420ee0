import { hash, randomInt } from "node:crypto";
import { type Selectable, sql, type Transaction } from "kysely";
import type { RouteDiscovery } from "../model/route.ts";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { DecryptionFailed } from "./errors.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** A route created through the admin API. */
export interface StoredRoute {
  readonly id: string;
  /** Host and path prefix; unique. */
  readonly place: string;
  /** The entry as in the routes file, including secrets; encrypted at rest. */
  readonly entry: Readonly<Record<string, unknown>>;
  readonly discovery?: RouteDiscovery;
  /** Incremented with every change, from a random start: a deleted route that is created again does not repeat one. */
  readonly version: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

type NewStoredRoute = Pick<StoredRoute, "id" | "place" | "entry"> & {
  /** Absent: unchanged; null: none. */
  readonly discovery?: RouteDiscovery | null;
};

/** A stored route that no known key decrypts. */
export type UnreadableRoute = Pick<StoredRoute, "id" | "place">;
/** A stored route whose row was changed, but whose entry the gateway has written for this id. */
export type RejectedRoute = Pick<StoredRoute, "id" | "entry">;

export interface StoredRoutes {
  /** @throws StoreUnavailable also if the key service does not answer */
  list(): Promise<StoredRoute[]>;
  /**
   * The same, and what is known of the routes that cannot be used: a list without them would look complete. A rejected row that no key
   * decrypts is none of them: it may be forged.
   */
  listAll(): Promise<{
    readonly routes: StoredRoute[];
    readonly unreadable: readonly UnreadableRoute[];
    readonly rejected: readonly RejectedRoute[];
  }>;
  /** False: the id or `place` exists already. */
  create(route: NewStoredRoute, audit: AuditEvent): Promise<boolean>;
  /** Replaces exactly this version. `changed`: it was changed concurrently; `duplicate`: another route has this `place`. */
  replace(
    route: NewStoredRoute,
    version: number,
    audit: AuditEvent,
  ): Promise<"replaced" | "changed" | "duplicate">;
  /** @param version if given, only this one is deleted */
  delete(id: string, audit: AuditEvent, version?: number): Promise<boolean>;
}

const table = "stored_route";
/** Of a new route. */
const maxFirstVersion = 1_000_000_000;
const digestOf = (sealed: string) => hash("sha256", sealed, "base64url");
type Row = Selectable<Tables["stored_route"]>;
const now = sql<Date>`now()`;
const column = (discovery: NewStoredRoute["discovery"]) =>
  discovery === undefined ? {} : { discovery: discovery && JSON.stringify(discovery) };

/**
 * Routes created through the admin API; the whole entry is encrypted, because it contains secrets.
 * @param onUnreadable called for a route that no known key decrypts
 */
export function storedRoutes(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  onUnreadable: (id: string, error: DecryptionFailed) => void,
): StoredRoutes {
  /** Forged rows with this id or `place`: a new route replaces them. */
  async function forgedAt(id: string, place: string): Promise<Pick<Row, "id" | "mac">[]> {
    const rows = await database.read("stored_route.there", (db) =>
      db
        .selectFrom(table)
        .selectAll()
        .where((e) => e.or([e("id", "=", id), e("place", "=", place)]))
        .execute(),
    );
    const forged = await Promise.all(rows.map((row) => macs.isForged(table, row)));
    return rows.filter((_, index) => forged[index]);
  }
  async function remove(tx: Transaction<Tables>, rows: readonly Pick<Row, "id" | "mac">[]): Promise<void> {
    for (const { id, mac } of rows)
      await tx.deleteFrom(table).where("id", "=", id).where("mac", "is not distinct from", mac).execute();
  }

  /** Of the last listing, by id: decrypting thousands of routes again for each page and change would hold up calls. */
  let decrypted: ReadonlyMap<string, { readonly digest: string; readonly entry: StoredRoute["entry"] }> =
    new Map();

  /** @throws StoreUnavailable if the key service does not answer: the entry may be readable later */
  async function decryptEntry({ id, sealed }: Row): Promise<StoredRoute["entry"] | DecryptionFailed> {
    const known = decrypted.get(id);
    if (known?.digest === digestOf(sealed)) return known.entry;
    try {
      return await decrypt<Record<string, unknown>>(table, [id], sealed);
    } catch (error) {
      if (error instanceof DecryptionFailed) return error;
      throw error;
    }
  }

  async function listAll(): ReturnType<StoredRoutes["listAll"]> {
    const rows = await database.read("stored_route.list", (db) =>
      db.selectFrom(table).selectAll().orderBy("created_at").orderBy("id").execute(),
    );
    const all = await Promise.all(
      rows.map(async (row) => ({
        row,
        isAccepted: (await macs.find(table, row)) !== undefined,
        entry: await decryptEntry(row),
      })),
    );
    decrypted = new Map(
      all.flatMap(({ row: { id, sealed }, entry }) =>
        entry instanceof DecryptionFailed ? [] : [[id, { digest: digestOf(sealed), entry }] as const],
      ),
    );
    const found = {
      routes: [] as StoredRoute[],
      unreadable: [] as UnreadableRoute[],
      rejected: [] as RejectedRoute[],
    };
    for (const { row, isAccepted, entry } of all) {
      const { id, place, version, created_at: createdAt, updated_at: updatedAt } = row;
      if (entry instanceof DecryptionFailed) {
        if (!isAccepted) continue;
        onUnreadable(id, entry);
        found.unreadable.push({ id, place });
      } else if (!isAccepted) found.rejected.push({ id, entry });
      else {
        const discovery = row.discovery ?? undefined;
        found.routes.push({ id, place, version, entry, discovery, createdAt, updatedAt });
      }
    }
    return found;
  }

  return {
    listAll,
    list: async () => (await listAll()).routes,

    async create({ id, place, entry, discovery }, audit) {
      await macs.ready();
      const forged = await forgedAt(id, place);
      const sealed = await encrypt(table, [id], entry);
      const version = randomInt(1, maxFirstVersion);
      const mac = macs.sign(table, { id, place, version });
      return database.write("stored_route.create", async (tx) => {
        await remove(tx, forged);
        const rows = await tx
          .insertInto(table)
          .values({ id, place, ...sealed, ...column(discovery), version, mac })
          .onConflict((conflict) => conflict.doNothing())
          .returning("id")
          .execute();
        if (rows.length === 0) return false;
        await writeAuditEvent(tx, audit);
        await notify(tx, { table });
        return true;
      });
    },

    async replace({ id, place, entry, discovery }, version, audit) {
      await macs.ready();
      const forged = await forgedAt(id, place);
      const sealed = await encrypt(table, [id], entry);
      const mac = macs.sign(table, { id, place, version: version + 1 });
      return database.write("stored_route.replace", async (tx) => {
        await remove(tx, forged);
        const other = await tx
          .selectFrom(table)
          .select("id")
          .where("place", "=", place)
          .where("id", "<>", id)
          .executeTakeFirst();
        if (other !== undefined) return "duplicate";
        const rows = await tx
          .updateTable(table)
          .set({ place, ...sealed, ...column(discovery), version: version + 1, mac, updated_at: now })
          .where("id", "=", id)
          .where("version", "=", version)
          .returning("id")
          .execute();
        if (rows.length === 0) return "changed";
        await writeAuditEvent(tx, audit);
        await notify(tx, { table });
        return "replaced";
      });
    },

    delete: (id, audit, version) =>
      database.write("stored_route.delete", async (tx) => {
        const all = tx.deleteFrom(table).where("id", "=", id);
        const one = version === undefined ? all : all.where("version", "=", version);
        const rows = await one.returning("id").execute();
        if (rows.length === 0) return false;
        await writeAuditEvent(tx, audit);
        await notify(tx, { table });
        return true;
      }),
  };
}
