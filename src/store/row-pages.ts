import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { Row } from "./mac-columns.ts";
import type { Tables } from "./tables.ts";

/** Rows that one transaction changes at most: it locks them for milliseconds. */
const batchSize = 200;
/** Rows that one statement looks at, while there is nothing to change. */
const maxLookedAt = 5_000;

/** A row as it was read, and what identifies this version of it. */
export interface PageRow {
  readonly primaryKey: readonly string[];
  readonly xmin: string;
  readonly values: Row;
}

/** Rows of a page that need a change, and where the next page begins. */
export interface Page {
  readonly rows: readonly PageRow[];
  /** Primary key of the last row that was looked at; undefined: the table ends here. */
  readonly after?: readonly string[];
  /** Number of rows that were looked at. */
  readonly lookedAt: number;
  /** For the next page. */
  readonly limit: number;
}

/** The columns `page_...` of a row; the others are its values. */
interface ReadRow {
  readonly page_key: string[];
  readonly page_xmin: string;
  readonly page_needed: boolean;
  readonly page_row: number;
  readonly page_rows: number;
  readonly [column: string]: unknown;
}

/**
 * The next page of a table in the order of its primary key, which no update changes: a pass over all pages misses no row. Rows that
 * do not need a change are counted by the database and not sent.
 * @param query.needed condition on a row
 * @param query.limit of the previous page
 */
export async function readPage(
  db: Kysely<Tables>,
  query: {
    readonly table: string;
    readonly primaryKey: readonly string[];
    readonly columns: readonly string[];
    readonly needed: RawBuilder<unknown>;
    readonly after?: readonly string[];
    readonly limit?: number;
  },
): Promise<Page> {
  const { after, limit = batchSize, needed } = query;
  // With the table's name: "order by" prefers the columns of the result, which have no index.
  const keys = sql.join(query.primaryKey.map((column) => sql.ref(`${query.table}.${column}`)));
  const columns = query.columns.map(
    (column) => sql`, case when ${needed} then ${sql.ref(column)} end as ${sql.ref(column)}`,
  );
  // Numbered outside the limit: within it, the whole rest of the table would be numbered.
  const { rows } = await sql<ReadRow>`
    select * from (
      select *, row_number() over ()::int as page_row, count(*) over ()::int as page_rows from (
        select jsonb_build_array(${keys}) as page_key, xmin::text as page_xmin, (${needed}) as page_needed
          ${sql.join(columns, sql` `)}
        from ${sql.table(query.table)}
        ${after === undefined ? sql`` : sql`where (${keys}) > (${sql.join(after)})`}
        order by ${keys} limit ${limit}
      ) as looked_at
    ) as page
    where page_needed or page_row = page_rows
    order by page_row limit ${batchSize}`.execute(db);
  const last = rows.at(-1);
  const found = rows.filter((row) => row.page_needed);
  const cut = rows.length === batchSize;
  return {
    rows: found.map(({ page_key, page_xmin, page_needed: _n, page_row: _r, page_rows: _s, ...values }) => ({
      primaryKey: page_key,
      xmin: page_xmin,
      values,
    })),
    ...(last && (cut || last.page_rows === limit) && { after: last.page_key }),
    lookedAt: last?.page_row ?? 0,
    limit: found.length > 0 ? batchSize : Math.min(limit * 2, maxLookedAt),
  };
}

/** Locks rows, and reads what they are now; rows that are gone are left out. */
export async function lockRows(
  tx: Transaction<Tables>,
  query: {
    readonly table: string;
    readonly primaryKey: readonly string[];
    readonly columns: readonly string[];
  },
  rows: readonly PageRow[],
): Promise<PageRow[]> {
  const keys = sql.join(query.primaryKey.map((column) => sql.ref(column)));
  const values = query.primaryKey.map((_, index) => rows.map(({ primaryKey }) => primaryKey[index] ?? null));
  const { rows: locked } = await sql<Pick<ReadRow, "page_key" | "page_xmin"> & Row>`
    select jsonb_build_array(${keys}) as page_key, xmin::text as page_xmin,
      ${sql.join(query.columns.map((column) => sql.ref(column)))}
    from ${sql.table(query.table)} as locked
    where (${keys}) in (select * from unnest(${sql.join(values.map((of) => sql`${of}::text[]`))}))
    for update of locked`.execute(tx);
  return locked.map(({ page_key, page_xmin, ...values }) => ({
    primaryKey: page_key,
    xmin: page_xmin,
    values,
  }));
}

/** New values of a row; absent: unchanged. */
export interface Change {
  readonly row: PageRow;
  readonly sealed?: string;
  readonly key_id?: string;
  readonly mac?: string;
}

/** Writes changes with one statement, except to rows that have changed since they were read. @returns one for each row written */
export async function writeChanges(
  db: Kysely<Tables>,
  table: string,
  primaryKey: readonly string[],
  changes: readonly Change[],
): Promise<readonly { readonly encrypted: boolean }[]> {
  const written = (["sealed", "key_id", "mac"] as const).filter((column) =>
    changes.some((change) => change[column] !== undefined),
  );
  const columns: [name: string, values: (string | null)[]][] = [
    ...primaryKey.map((_, index): [string, (string | null)[]] => [
      `key_${index}`,
      changes.map(({ row }) => row.primaryKey[index] ?? null),
    ]),
    ["version", changes.map(({ row }) => row.xmin)],
    ...written.map((column): [string, (string | null)[]] => [
      `new_${column}`,
      changes.map((change) => change[column] ?? null),
    ]),
  ];
  const old = (column: string) => sql.ref(`old.${column}`);
  const { rows } = await sql<{ encrypted: boolean }>`
    update ${sql.table(table)} as old
    set ${sql.join(written.map((column) => sql`${sql.ref(column)} = coalesce(${sql.ref(`change.new_${column}`)}, ${old(column)})`))}
    from unnest(${sql.join(columns.map(([, values]) => sql`${values}::text[]`))})
      as change (${sql.join(columns.map(([name]) => sql.ref(name)))})
    where ${sql.join(
      primaryKey.map((column, index) => sql`${old(column)} = ${sql.ref(`change.key_${index}`)}`),
      sql` and `,
    )} and old.xmin::text = change.version
    returning ${written.includes("sealed") ? sql`change.new_sealed is not null` : sql`false`} as encrypted`.execute(
    db,
  );
  return rows;
}
