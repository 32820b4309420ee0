import { type ExecutedOperation, nodesOf, type PlanNode, rowsTouched } from "./plan-log.ts";

/** A statement whose work grows with the number of users. */
export interface Finding {
  readonly operation: string;
  readonly table: string;
  readonly problem: string;
  /** The statement, without values. */
  readonly text: string;
}

/**
 * The statements that read a growing table from end to end: by a sequential scan, by an index without a condition on it, or by reading
 * more than `atMost` rows of it.
 * @param tables.tableOfIndex names of tables by the name of their index
 * @param tables.atMost rows that one scan may read: more than a batch, less than the tables have
 */
export function scansOfGrowingTables(
  operations: readonly ExecutedOperation[],
  tables: {
    readonly growing: ReadonlySet<string>;
    readonly tableOfIndex: ReadonlyMap<string, string>;
    readonly atMost: number;
  },
): Finding[] {
  const findings = new Map<string, Finding>();
  for (const { operation, statements } of operations)
    for (const { text, plan } of statements)
      for (const node of nodesOf(plan)) {
        const name = node["Relation Name"] ?? tables.tableOfIndex.get(node["Index Name"] ?? "");
        const table = name?.replace(partition, "$1");
        if (table === undefined || !tables.growing.has(table)) continue;
        const problem = problemOf(node, tables.atMost);
        if (problem)
          findings.set(`${operation} ${table} ${problem} ${text}`, { operation, table, problem, text });
      }
  return [...findings.values()];
}

/** Of the audit trail, which is partitioned. */
const partition = /^(audit_event)_(?:first|default|until_\d{8}|\d{8}_\d{8})$/;

function problemOf(node: PlanNode, atMost: number): string | undefined {
  const type = node["Node Type"];
  if (!type.endsWith("Scan")) return undefined;
  if (type === "Seq Scan") return "sequential scan";
  const byIndex = type === "Index Scan" || type === "Index Only Scan" || type === "Bitmap Index Scan";
  if (byIndex && node["Index Cond"] === undefined && node.Filter !== undefined)
    return `filtered scan of the whole index ${node["Index Name"]}`;
  const touched = rowsTouched(node);
  if (touched > atMost)
    return `scan of ${touched} rows (${type} ${node["Index Name"] ?? ""})`.replace(" )", ")");
  return undefined;
}
