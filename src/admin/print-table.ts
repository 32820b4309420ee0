/**
 * Rows under a head, in columns as wide as their widest cell.
 * @param rows cells in the order of `head`; dates are printed in ISO 8601
 */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly (string | Date | undefined)[])[],
): string {
  const texts = rows.map((row) =>
    row.map((cell) => (cell instanceof Date ? cell.toISOString() : (cell ?? "-"))),
  );
  const all = [head.map((name) => name.toUpperCase()), ...texts];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return `${all.map(line).join("\n")}\n`;
}
