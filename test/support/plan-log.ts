import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";

/** One node of a plan, as `auto_explain` logs it (PostgreSQL documentation, "Using EXPLAIN"). Rows are per loop. */
export interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly "Recheck Cond"?: string;
  readonly Filter?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Index Recheck"?: number;
  readonly "Shared Hit Blocks"?: number;
  readonly "Shared Read Blocks"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** A statement that the server has executed. */
export interface ExecutedStatement {
  readonly text: string;
  /** `application_name` of the connection. */
  readonly application: string;
  readonly ms: number;
  readonly plan: PlanNode;
}

/** The statements of one operation, in the order in which they ended. */
export interface ExecutedOperation {
  readonly operation: string;
  readonly statements: readonly ExecutedStatement[];
}

/** What a Postgres has executed, with the actual plan of every statement. */
export interface PlanLog {
  /** Assigns all statements since the last call to `operation`. */
  end(operation: string): Promise<void>;
  /** All operations since the last call. */
  read(): Promise<ExecutedOperation[]>;
  close(): Promise<void>;
}

/** Settings for `startPostgres`: the plans of all statements, with actual rows and buffers, go to a log of JSON lines. */
export const planLogSettings = {
  shared_preload_libraries: "auto_explain",
  "auto_explain.log_min_duration": "0",
  "auto_explain.log_analyze": "on",
  "auto_explain.log_buffers": "on",
  // A clock call per row would cost more than the row.
  "auto_explain.log_timing": "off",
  "auto_explain.log_format": "json",
  "auto_explain.log_nested_statements": "on",
  // Values stay out of the log.
  "auto_explain.log_parameter_max_length": "0",
  logging_collector: "on",
  log_destination: "jsonlog",
  log_filename: "plans.log",
  log_rotation_age: "0",
  log_rotation_size: "0",
} as const;

/** For a session whose statements are not to be logged, such as one that fills tables. */
export const withoutPlans = "set auto_explain.log_min_duration = -1";

const separator = "end of operation ";

/** Reads the plans of a server that was started with `planLogSettings`. */
export async function openPlanLog(url: string): Promise<PlanLog> {
  const client = new pg.Client({ connectionString: url, application_name: "plan log" });
  await client.connect();
  const { rows } = await client.query("select current_setting('data_directory') as folder");
  const file = join(rows[0].folder, "log/plans.json");
  let operations = 0;
  let offset = 0;
  let finished: ExecutedOperation[] = [];

  /** Everything that was logged before the last `end`: the collector writes in order, a little later. */
  async function linesUntil(mark: string): Promise<string[]> {
    for (;;) {
      const text = await textFrom(file, offset);
      const at = text.indexOf(mark);
      const end = at < 0 ? -1 : text.indexOf("\n", at);
      if (end >= 0) {
        offset += Buffer.byteLength(text.slice(0, end + 1));
        return text.slice(0, end).split("\n");
      }
      await delay(10);
    }
  }

  return {
    async end(operation) {
      operations++;
      await client.query(`select '${separator}${operations} ${operation.replaceAll("'", "''")}'`);
    },
    async read() {
      if (operations === 0) return [];
      const lines = await linesUntil(`${separator}${operations} `);
      let statements: ExecutedStatement[] = [];
      for (const line of lines) {
        const statement = executed(line);
        if (statement === undefined || statement.text.startsWith("select current_setting")) continue;
        const [, name] = /^select 'end of operation \d+ (.*)'$/.exec(statement.text) ?? [];
        if (name === undefined) {
          statements.push(statement);
          continue;
        }
        finished.push({ operation: name, statements });
        statements = [];
      }
      const all = finished;
      finished = [];
      operations = 0;
      return all;
    },
    close: () => client.end(),
  };
}

/** What a growing file has from `offset` on. */
async function textFrom(path: string, offset: number): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const bytes = Buffer.alloc(Math.max(0, size - offset));
    await file.read(bytes, 0, bytes.length, offset);
    return bytes.toString();
  } finally {
    await file.close();
  }
}

/** Undefined: a line that is not a plan. */
function executed(line: string): ExecutedStatement | undefined {
  const { message = "", application_name: application = "" } = JSON.parse(line);
  const [, ms, json] = /^duration: ([\d.]+) ms {2}plan:\n([\s\S]+)$/.exec(message) ?? [];
  if (json === undefined) return undefined;
  const { "Query Text": text, Plan: plan } = JSON.parse(json);
  return { text, application, ms: Number(ms), plan };
}

/** A node and all nodes below it. */
export function nodesOf(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)];
}

/** How many rows a scan has read, whether or not they were wanted. */
export function rowsTouched(node: PlanNode): number {
  const { "Rows Removed by Filter": filtered = 0, "Rows Removed by Index Recheck": rechecked = 0 } = node;
  return Math.round((node["Actual Rows"] + filtered + rechecked) * node["Actual Loops"]);
}
