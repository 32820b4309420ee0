import { sql, type Transaction } from "kysely";
import type { Database } from "./database.ts";
import { asBound, type BoundRow, type BoundTable, boundColumns } from "./mac-columns.ts";
import { lockRows, readPage, writeChanges } from "./row-pages.ts";
import { takeRowPass } from "./row-pass.ts";
import type { Tables } from "./tables.ts";

/**
 * Signs every row of these tables that `sign` returns a MAC for, in batches that lock few rows; one process at a time, and one that
 * stopped is continued.
 * @param deps.sign the MAC of a row without a valid one
 * @param deps.end in the transaction that ends the pass
 * @returns whether all rows are signed; false: another process is running it
 */
export async function bindRows(
  database: Database,
  tables: readonly BoundTable[],
  deps: {
    readonly sign: (
      table: BoundTable,
      row: BoundRow<BoundTable> & { readonly mac: string | null },
    ) => string | undefined;
    readonly end: (tx: Transaction<Tables>) => Promise<void>;
  },
): Promise<boolean> {
  const pass = await takeRowPass(database, "bind_rows");
  if (pass === undefined) return false;
  try {
    const target = tables.join(" ");
    let from = pass.target === target ? pass.position : undefined;
    if (pass.target !== target) await pass.restart(target);
    for (const table of tables) {
      if (from !== undefined && from.table !== table) continue;
      const { keys, columns: covered } = boundColumns[table];
      const [primaryKey, columns] = [covered.slice(0, keys), [...covered, "mac"]];
      let after = from?.table === table ? from.after : undefined;
      let rows = from?.table === table ? from.rows : 0;
      from = undefined;
      do {
        const page = await database.read(`${table}.find_unbound`, (db) =>
          // Whether a MAC is valid is not known to the database.
          readPage(db, { table, primaryKey, columns, needed: sql`true`, after }),
        );
        const unsigned = page.rows.filter(({ values }) => deps.sign(table, asBound(values)) !== undefined);
        rows += page.lookedAt;
        const position = { table, rows, after: page.after };
        await database.write(`${table}.bind`, async (tx) => {
          if (unsigned.length > 0) {
            const locked = await lockRows(tx, { table, primaryKey, columns }, unsigned);
            const changes = locked.flatMap((row) => {
              const mac = deps.sign(table, asBound(row.values));
              return mac === undefined ? [] : [{ row, mac }];
            });
            if (changes.length > 0) await writeChanges(tx, table, primaryKey, changes);
          }
          await pass.save(tx, position);
        });
        after = page.after;
      } while (after !== undefined);
    }
    await database.write("row_mac.bound", async (tx) => {
      await deps.end(tx);
      await pass.finish(tx);
    });
    return true;
  } catch (error) {
    await pass.release().catch(() => {});
    throw error;
  }
}
