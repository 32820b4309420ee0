import { type ExpressionBuilder, type Kysely, type Selectable, sql } from "kysely";
import type { AuthorizationServerRecords, GrantSummary } from "./authorization-server-records.ts";
import type { Database } from "./database.ts";
import { DecryptionFailed } from "./errors.ts";
import { hashedHandle } from "./hashed-handle.ts";
import { boundColumns } from "./mac-columns.ts";
import { comesAfter, pageSize, pagesOf } from "./pages.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

const table = "authorization_server_record";
type Row = Selectable<Tables["authorization_server_record"]>;

/** Records that have not expired by the database's clock. */
export const unexpired = (e: ExpressionBuilder<Tables, typeof table>) =>
  e.or([e("expires_at", "is", null), e("expires_at", ">", sql<Date>`now()`)]);

/** A grant, with the user who allowed it, and its client. */
export type GrantOwner = Pick<GrantSummary, "grantId" | "userId" | "clientId">;

export const ownerOf = (row: Pick<Row, "grant_id" | "user_id" | "client_id">): GrantOwner => ({
  grantId: row.grant_id ?? "",
  userId: row.user_id ?? "",
  clientId: row.client_id ?? "",
});

/** The grants of a user or client, or one grant, to which records with a valid MAC belong: the row of the grant, or its tokens. */
export async function grantsOfRecords(
  db: Kysely<Tables>,
  macs: Pick<RowMacs, "accepts">,
  { userId, clientId, grantId }: Partial<GrantOwner>,
): Promise<GrantOwner[]> {
  let query = db
    .selectFrom(table)
    .select([...boundColumns[table].columns, "mac"])
    .where("grant_id", "is not", null)
    .where(unexpired);
  if (userId !== undefined) query = query.where("user_id", "=", userId);
  if (clientId !== undefined) query = query.where("client_id", "=", clientId);
  if (grantId !== undefined) query = query.where("grant_id", "=", grantId);
  const owners = new Map<string, GrantOwner>();
  for (const row of await query.execute())
    if (row.grant_id !== null && !owners.has(row.grant_id) && macs.accepts(table, row))
      owners.set(row.grant_id, ownerOf(row));
  return [...owners.values()];
}

/** Queries over grants, for their users and for operators. */
export function grantQueries(
  database: Database,
  macs: RowMacs,
  decryptPayload: (row: Row) => Promise<{ id: string; payload: Record<string, unknown> }>,
  onUnreadable: (error: DecryptionFailed) => void,
): Pick<
  AuthorizationServerRecords,
  "grantIsLive" | "clientHasGrant" | "grants" | "grantPages" | "grantsOfRecords"
> {
  type Found = Row & { last_used_at: Date };

  function select(
    db: Parameters<Parameters<Database["read"]>[1]>[0],
    { userId, clientId }: { userId?: string; clientId?: string },
  ) {
    let query = db
      .selectFrom(table)
      .selectAll()
      .select(
        sql<Date>`(
          select max(of_grant.created_at) from ${sql.table(table)} as of_grant
          where of_grant.grant_id = authorization_server_record.grant_id)`.as("last_used_at"),
      )
      .where("model", "=", "Grant")
      .where(unexpired);
    if (userId !== undefined) query = query.where("user_id", "=", userId);
    if (clientId !== undefined) query = query.where("client_id", "=", clientId);
    return query;
  }

  async function readContent(row: Row): ReturnType<typeof decryptPayload> {
    try {
      return await decryptPayload(row);
    } catch (error) {
      if (!(error instanceof DecryptionFailed)) throw error;
      onUnreadable(error);
      return { id: row.grant_id ?? "", payload: {} };
    }
  }

  async function summaries(rows: readonly Found[]): Promise<GrantSummary[]> {
    return Promise.all(
      (await macs.filter(table, rows)).map(async (row) => {
        const { id, payload } = await readContent(row);
        return {
          grantId: id,
          userId: row.user_id ?? "",
          clientId: row.client_id ?? "",
          payload,
          createdAt: row.created_at,
          lastUsedAt: row.last_used_at,
          ...(row.expires_at && { expiresAt: database.clock.fromDatabase(row.expires_at) }),
        };
      }),
    );
  }

  return {
    async grantIsLive(grantId) {
      const row = await database.read("authorization_server_record.grant_is_live", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("model", "=", "Grant")
          .where("id_name", "=", hashedHandle(grantId))
          .where(unexpired)
          .executeTakeFirst(),
      );
      return (await macs.find(table, row)) !== undefined;
    },

    async clientHasGrant(clientId) {
      const row = await database.read("authorization_server_record.client_has_grant", (db) =>
        db
          .selectFrom(table)
          .select("model")
          .where("model", "=", "Grant")
          .where("client_id", "=", clientId)
          .where(unexpired)
          .limit(1)
          .executeTakeFirst(),
      );
      return row !== undefined;
    },

    async grants(filter) {
      const rows = await database.read("authorization_server_record.grants", (db) =>
        select(db, filter).orderBy("created_at").execute(),
      );
      return summaries(rows);
    },

    async grantsOfRecords(which) {
      await macs.ready();
      return database.read("authorization_server_record.grants_of_records", (db) =>
        grantsOfRecords(db, macs, which),
      );
    },

    async *grantPages({ grantId, ...filter }, start) {
      type Place = Pick<Found, "user_id" | "id_name">;
      const place = start && { user_id: start.userId, id_name: hashedHandle(start.grantId) };
      const pages = pagesOf<Found, Place>(
        (after) =>
          database.read("authorization_server_record.grant_page", (db) => {
            let query = select(db, filter);
            if (grantId !== undefined) query = query.where("id_name", "=", hashedHandle(grantId));
            if (after) query = query.where(comesAfter(["user_id", "id_name"], after));
            return query.orderBy("user_id").orderBy("id_name").limit(pageSize).execute();
          }),
        place,
      );
      for await (const rows of pages) yield await summaries(rows);
    },
  };
}
