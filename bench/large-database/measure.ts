import { operationTimeoutMs } from "../../src/store/open-store.ts";
import {
  type ExecutedStatement,
  nodesOf,
  type PlanLog,
  type PlanNode,
  rowsTouched,
} from "../../test/support/plan-log.ts";
import type { Line, Table } from "../report/report.ts";
import type { Operation, Sample } from "./operations.ts";

/** Runs the operations one after another, and describes every statement that the server executed for them. */
export async function measureOperations(
  title: string,
  operations: readonly Operation[],
  sample: Sample,
  log: PlanLog,
  progress: (line: string) => void,
): Promise<Table> {
  const lines: Line[] = [];
  for (const { name, run } of operations) {
    progress(`${title}: ${name}`);
    await log.end("before");
    await log.read();
    const startedAt = performance.now();
    const outcome = await run(sample).then(
      (rows) => (rows === undefined ? "" : `${rows.toLocaleString("en")} rows`),
      (error: Error) => `fails: ${error.message}`,
    );
    const ms = performance.now() - startedAt;
    await log.end(name);
    const statements = (await log.read()).flatMap((one) => one.statements).filter(isOfProduct);
    lines.push({ name: `**${name}**`, figures: { ms, "rows read": "", buffers: "", plan: outcome } });
    lines.push(...statementLines(statements));
  }
  return { title, note: statementsNote, lines };
}

const statementsNote =
  "The time of the whole call is in the bold line, and what it returned. Below, each statement that the server executed for it: its time on the server, rows read by all scans together (whether wanted or not), buffers of 8 KiB, and the plan. Statements that were executed several times are added up.";

/** Not the heartbeat, nor transactions. */
const isOfProduct = ({ text, application }: ExecutedStatement) =>
  application !== "plan log" && !application.endsWith("heartbeat") && !/pg_notify|advisory/.test(text);

/** Equal statements are one line. */
export function statementLines(statements: readonly ExecutedStatement[]): Line[] {
  const byText = Map.groupBy(statements, ({ text }) => text);
  return [...byText].map(([text, all]) => {
    const sum = (of: (one: ExecutedStatement) => number) => all.reduce((total, one) => total + of(one), 0);
    const scans = (plan: PlanNode) => nodesOf(plan).filter(isScan);
    const first = all[0];
    return {
      name: `${shortened(text)}${all.length > 1 ? ` (${all.length} times)` : ""}${
        all.some(({ ms }) => ms > operationTimeoutMs) ? " **(longer than the store waits)**" : ""
      }`,
      figures: {
        ms: sum(({ ms }) => ms),
        "rows read": sum(({ plan }) => scans(plan).reduce((total, node) => total + rowsTouched(node), 0)),
        buffers: sum(({ plan }) => (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0)),
        plan: first ? planOf(first.plan) : "",
      },
    };
  });
}

/** A bitmap's index scans find what its heap scan reads. */
const isScan = ({ "Node Type": type }: PlanNode) => type.endsWith("Scan") && type !== "Bitmap Index Scan";

/** The plan in one line, from the top: what has a name is followed by it. */
export function planOf(node: PlanNode): string {
  const { "Node Type": type, "Index Name": index, "Relation Name": relation, Plans: below = [] } = node;
  const name = [type, index ?? (type.endsWith("Scan") ? relation : undefined)].filter(Boolean).join(" ");
  const parts = below.map(planOf);
  if (parts.length === 0) return name;
  return parts.length === 1 ? `${name} < ${parts[0]}` : `${name} < (${parts.join("; ")})`;
}

/** Verb, tables and condition, in at most so many characters, safe in a Markdown table. */
function shortened(text: string): string {
  const plain = text.replace(/\s+/g, " ").replaceAll('"', "").trim();
  const [, verb = plain] =
    /^(select .*? from \S+|update \S+|insert into \S+|delete from \S+)/.exec(plain) ?? [];
  const shortVerb = verb.replace(/^select .*? from/, "select from");
  const rest = plain.slice(verb.length);
  return `\`${`${shortVerb}${rest}`.replaceAll("|", "\\|").slice(0, 110)}\``;
}
