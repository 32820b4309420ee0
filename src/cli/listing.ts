import type { CommandOptions } from "./command.ts";

/** How a listing is printed. */
export interface ListingOptions extends CommandOptions {
  /** Resolves when standard output accepts more; false: its reader has gone. */
  readonly drained: () => Promise<boolean>;
  /** One JSON document per line instead of a table. */
  readonly json?: boolean;
}

type Value = string | Date | boolean | readonly string[] | undefined;

/** The columns of a listing: heading of the table, name in JSON, value. An unknown value is undefined. */
export type Columns<Row> = readonly (readonly [heading: string, name: string, value: (row: Row) => Value])[];

/**
 * Prints rows as their pages arrive, in constant memory. If nobody reads the output any more, it ends early, without an error.
 * @param columns in the order of the table
 */
export async function printPages<Row>(
  { out, drained, json }: Pick<ListingOptions, "out" | "drained" | "json">,
  columns: Columns<Row>,
  pages: AsyncIterable<readonly Row[]>,
): Promise<void> {
  const linesOf = json ? jsonLines(columns) : tableLines(columns);
  let printed = false;
  for await (const rows of pages) {
    out(lines(linesOf(rows)));
    printed = true;
    if (!(await drained())) return;
  }
  if (!printed) out(lines(linesOf([])));
}

const lines = (texts: readonly string[]) => texts.map((text) => `${text}\n`).join("");

/** JSON documents without the unknown values. */
function jsonLines<Row>(columns: Columns<Row>) {
  return (rows: readonly Row[]): string[] =>
    rows.map((row) =>
      JSON.stringify(Object.fromEntries(columns.map(([, name, value]) => [name, value(row)]))),
    );
}

/** Aligned columns, under a header before the first page. A column that a later page needs wider stays as wide. */
function tableLines<Row>(columns: Columns<Row>) {
  let header: readonly string[] | undefined = columns.map(([heading]) => heading.toUpperCase());
  const widths = columns.map(() => 0);
  return (rows: readonly Row[]): string[] => {
    const cells = rows.map((row) => columns.map(([, , value]) => cell(value(row))));
    const all = header === undefined ? cells : [header, ...cells];
    header = undefined;
    for (const row of all)
      for (const [column, text] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, text.length);
    return all.map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  };
}

function cell(value: Value): string {
  if (value === undefined) return "-";
  if (value instanceof Date) return value.toISOString();
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : value.join(",") || "-";
}
