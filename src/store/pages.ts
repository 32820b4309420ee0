import { type RawBuilder, sql } from "kysely";

/** Rows per page. */
export const pageSize = 500;

/**
 * Reads rows in pages, each by a short statement of its own, so that a listing of any length takes constant memory and holds no
 * transaction open. A row that exists all the time is read exactly once, whatever changes around it.
 * @param read the first `pageSize` rows after this one, in an order that an index gives; undefined: from the start
 * @param first the row after which the first page begins
 */
export async function* pagesOf<Row extends Key, Key = Row>(
  read: (after: Key | undefined) => Promise<readonly Row[]>,
  first?: Key,
): AsyncGenerator<readonly Row[]> {
  let after = first;
  for (;;) {
    const rows = await read(after);
    if (rows.length > 0) yield rows;
    if (rows.length < pageSize) return;
    after = rows.at(-1);
  }
}

/** `(columns) > (values of row)`, in the order of an index on these columns. */
export function comesAfter<Row extends object, C extends string & keyof Row>(
  columns: readonly C[],
  row: Row,
): RawBuilder<boolean> {
  const names = sql.join(columns.map((column) => sql.ref(column)));
  return sql<boolean>`(${names}) > (${sql.join(columns.map((column) => row[column]))})`;
}
