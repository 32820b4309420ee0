import { sql } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import type { Database } from "./database.ts";
import type { Indexes } from "./indexes.ts";

/** A connection to refresh in the background. */
export interface DueToken extends ConnectionKey {
  readonly version: number;
  /** Why: the access token expires, or the refresh token would expire unused. */
  readonly because: "token_expires" | "refresh_token_expires";
}

export interface DueTokens {
  /**
   * Connections with a refresh token that are not leased: first valid access tokens by expiry; then refresh tokens that expire within a
   * day, or the last fifth of a short lifetime; then expired access tokens, newest first, so that old failures do not delay the others.
   * Connections that have not been used for `usedWithin` are dormant: they are found once, and again when they are used.
   * Reads one page at a time, as they are asked for. Finds nothing while the indexes are being built.
   * @param search.aheadMs how long before its expiry an access token is due
   * @param search.lastPart only tokens in this last fraction of their lifetime (1: any), so that short-lived ones are not refreshed constantly
   * @param search.usedWithin seconds
   */
  dueForRefresh(search: {
    readonly aheadMs: number;
    readonly lastPart?: number;
    readonly usedWithin: number;
    /** Rows that one statement looks at. */
    readonly pageSize?: number;
  }): AsyncGenerator<DueToken[], void, void>;
  /** Records that a refresh does not extend the refresh token beyond this time, by about a tenth of its lifetime: it is not refreshed for that again. */
  setRefreshFinal(key: ConnectionKey, at: Date): Promise<void>;
}

const table = "upstream_token";
const now = sql<Date>`now()`;
/** As in the index `upstream_token_due`. A row that an old replica has refreshed since is not dormant. */
const notDormant = sql<boolean>`refreshable and (dormant_at is null or dormant_at < updated_at)`;
/** As in the index `upstream_token_refresh_due`. */
const mayBeExtended = sql<boolean>`refreshable and (refresh_final_at is null or refresh_expires_at > refresh_final_at)`;
const refreshDueAt = sql<Date>`((refresh_expires_at at time zone 'UTC') - least(interval '1 day', 0.2 * (refresh_expires_at - updated_at)))`;
const utc = sql<Date>`(now() at time zone 'UTC')`;
const seconds = (count: number) => sql`${count} * interval '1 second'`;

interface Row {
  readonly user_id: string;
  readonly route_id: string;
  readonly upstream: string;
  readonly version: number;
  /** What the page is ordered by: text, since dates have fewer digits. */
  readonly at: string;
  readonly due: boolean;
  readonly dormant: boolean;
}

/** A range of an index, and its order. */
interface Range {
  readonly because: DueToken["because"];
  readonly column: typeof now;
  readonly where: typeof notDormant;
  readonly direction: "asc" | "desc";
}

/** Searches for the background refresh. Nothing is decrypted. */
export function dueTokens(database: Database, indexes: Pick<Indexes, "built">): DueTokens {
  const { clock } = database;
  /** The next rows of a range. @param after the last row of the page before */
  function read(
    { column, where, direction }: Range,
    search: { readonly lastPart: number; readonly usedWithin: number; readonly pageSize: number },
    after: Row | undefined,
  ): Promise<readonly Row[]> {
    const order = sql.raw(direction);
    const beyond = sql.raw(direction === "asc" ? ">" : "<");
    const isTimestamp = column === refreshDueAt;
    const shown = isTimestamp ? column : sql`${column} at time zone 'UTC'`;
    const key = sql`user_id, route_id, upstream`;
    const position =
      after === undefined
        ? sql``
        : sql`and (${column}, ${key}) ${beyond} (${after.at}::${sql.raw(isTimestamp ? "timestamp" : "timestamptz")}, ${after.user_id}, ${after.route_id}, ${after.upstream})`;
    return database.read("upstream_token.due_for_refresh", async (db) => {
      const { rows } = await sql<Row>`
        select ${key}, version,
          to_char(${shown}, ${sql.lit(`YYYY-MM-DD"T"HH24:MI:SS.US${isTimestamp ? "" : '"Z"'}`)}) as at,
          (lease_until is null or lease_until <= now())
            and (refresh_expires_at is null or refresh_expires_at > now())
            and (${sql.lit(isTimestamp)} or expires_at - ${search.lastPart}::float8 * (expires_at - updated_at) <= now()) as due,
          not ${sql.lit(isTimestamp)} and coalesce(last_used_at, connected_at) < now() - ${seconds(search.usedWithin)} as dormant
        from ${sql.table(table)} where ${where} ${position}
        order by ${column} ${order}, user_id ${order}, route_id ${order}, upstream ${order}
        limit ${search.pageSize}`.execute(db);
      return rows;
    });
  }

  /** Marks rows as dormant, except those used or refreshed since they were read. */
  async function markDormant(rows: readonly Row[], usedWithin: number): Promise<void> {
    const column = (name: "user_id" | "route_id" | "upstream") => rows.map((row) => row[name]);
    await database.writeAtOnce("upstream_token.set_dormant", (db) =>
      sql`
        update ${sql.table(table)} as token set dormant_at = now()
        from unnest(${column("user_id")}::text[], ${column("route_id")}::text[], ${column("upstream")}::text[],
          ${rows.map(({ version }) => version)}::bigint[]) as found (user_id, route_id, upstream, version)
        where token.user_id = found.user_id and token.route_id = found.route_id and token.upstream = found.upstream
          and token.version = found.version
          and coalesce(token.last_used_at, token.connected_at) < now() - ${seconds(usedWithin)}`.execute(db),
    );
  }

  async function isReady(): Promise<boolean> {
    return (await indexes.built("upstream_token_due")) && (await indexes.built("upstream_token_refresh_due"));
  }

  return {
    async *dueForRefresh({ aheadMs, lastPart = 1, usedWithin, pageSize = 200 }) {
      if (!(await isReady())) return;
      const search = { lastPart, usedWithin, pageSize };
      const expiry = { because: "token_expires", column: sql<Date>`expires_at` } as const;
      const ranges: Range[] = [
        {
          ...expiry,
          where: sql`${notDormant} and expires_at > now() and expires_at < now() + ${seconds(aheadMs / 1000)}`,
          direction: "asc",
        },
        {
          because: "refresh_token_expires",
          column: refreshDueAt,
          // Whatever was due earlier has expired.
          where: sql`${mayBeExtended} and ${refreshDueAt} <= ${utc} and ${refreshDueAt} > ${utc} - interval '1 day'`,
          direction: "desc",
        },
        {
          ...expiry,
          // What was used lately has expired lately, unless its refreshes fail.
          where: sql`${notDormant} and expires_at <= now() and expires_at > now() - ${seconds(usedWithin)}`,
          direction: "desc",
        },
      ];
      for (const range of ranges) {
        for (let after: Row | undefined, full = true; full; ) {
          const rows = await read(range, search, after);
          full = rows.length === pageSize;
          after = rows.at(-1);
          const dormant = rows.filter((row) => row.dormant);
          if (dormant.length > 0) await markDormant(dormant, usedWithin);
          const due = rows.filter((row) => row.due && !row.dormant);
          if (due.length > 0)
            yield due.map((row) => ({
              userId: row.user_id,
              routeId: row.route_id,
              upstream: row.upstream,
              version: row.version,
              because: range.because,
            }));
        }
      }
    },

    async setRefreshFinal(key, at) {
      await database.writeAtOnce("upstream_token.set_refresh_final", (db) =>
        db
          .updateTable(table)
          .set({ refresh_final_at: clock.toDatabase(at) })
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .execute(),
      );
    },
  };
}
