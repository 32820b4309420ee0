import { escaped, printable } from "../util/plain-text.ts";
import type { CommandOptions } from "./command.ts";

/** How a listing is printed. */
export interface ListingOptions extends CommandOptions {
  /** Resolves when standard output accepts more; false: its reader has gone. */
  readonly drained: () => Promise<boolean>;
  /** One JSON document per line instead of a table. */
  readonly json?: boolean;
  /** Rows to print at most. */
  readonly limit?: number;
  /** Begins after the row with this cursor. */
  readonly after?: Cursor;
}

/** Where a listing continues: what identifies a row, in the listing's order. */
export type Cursor = readonly string[];

const cursorText = (cursor: Cursor) => Buffer.from(JSON.stringify(cursor)).toString("base64url");

/** Reads a printed cursor; undefined: it is none. */
export function readCursor(text: string): Cursor | undefined {
  try {
    const parts: unknown = JSON.parse(Buffer.from(text, "base64url").toString());
    return Array.isArray(parts) && parts.every((part) => typeof part === "string") ? parts : undefined;
  } catch {
    return undefined;
  }
}

/** What is wrong with a value of the configuration, as the admin API has it. */
type Fault = Readonly<Record<"path" | "message" | "fix", string>>;
type Value = string | Date | boolean | readonly string[] | readonly Fault[] | undefined;

/** The columns of a listing: heading of the table, name in JSON, value. An unknown value is undefined. */
export type Columns<Row> = readonly (readonly [heading: string, name: string, value: (row: Row) => Value])[];

/** A kind of listing. */
export interface Listing<Row> {
  /** In the order of the table. */
  readonly columns: Columns<Row>;
  readonly cursor: (row: Row) => Cursor;
}

/**
 * Prints rows as their pages arrive, in constant memory, up to `limit`. If nobody reads the output any more, it ends early, without an
 * error. Every JSON document has its cursor; below a table that the limit ends, `err` says how to continue.
 * @param pages begin after `after`
 */
export async function printPages<Row>(
  { out, err, drained, json, limit = Number.POSITIVE_INFINITY }: ListingOptions,
  { columns, cursor }: Listing<Row>,
  pages: AsyncIterable<readonly Row[]>,
): Promise<void> {
  const linesOf = json ? jsonLines(columns, cursor) : tableLines(columns);
  let left = limit;
  let last: Row | undefined;
  for await (const page of pages) {
    const rows = page.slice(0, left);
    if (rows.length > 0) out(lines(linesOf(rows)));
    left -= rows.length;
    last = rows.at(-1) ?? last;
    if (rows.length < page.length) {
      if (last !== undefined) err(`there are more: continue with --after ${cursorText(cursor(last))}\n`);
      return;
    }
    if (rows.length > 0 && !(await drained())) return;
  }
  if (last === undefined) out(lines(linesOf([])));
}

const lines = (texts: readonly string[]) => texts.map((text) => `${text}\n`).join("");

/** JSON documents without the unknown values. */
function jsonLines<Row>(columns: Columns<Row>, cursor: Listing<Row>["cursor"]) {
  return (rows: readonly Row[]): string[] =>
    rows.map((row) =>
      escaped(
        JSON.stringify({
          ...Object.fromEntries(columns.map(([, name, value]) => [name, value(row)])),
          cursor: cursorText(cursor(row)),
        }),
      ),
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
  if (typeof value === "string") return printable(value);
  const texts = value.map((one) => (typeof one === "string" ? one : `${one.path}: ${one.message}`));
  return printable(texts.join(",")) || "-";
}
