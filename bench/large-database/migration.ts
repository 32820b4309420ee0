import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import type { Table } from "../report/report.ts";
import { runCommand } from "./commands.ts";

const folder = join(import.meta.dirname, "../../migrations");

/** The last migration before those that build indexes, which is where the database is filled; the newest if none does. */
export async function versionBeforeIndexes(): Promise<string> {
  const names = readdirSync(folder)
    .map((file) => file.replace(/\.ts$/, ""))
    .sort();
  for (const [index, name] of names.entries()) {
    const migration = await import(join(folder, `${name}.ts`));
    if (migration.indexes !== undefined) return names[index - 1] ?? name;
  }
  return names.at(-1) ?? "";
}

/** The command `migrate` on the filled database, and each statement of it that took its time. */
export async function measureMigration(
  env: Readonly<Record<string, string>>,
  file: string,
  progress: (line: string) => void,
): Promise<Table> {
  progress("migrate");
  const client = new pg.Client({ connectionString: env.DATABASE_URL ?? "" });
  await client.connect();
  const { rows } = await client.query("select current_setting('data_directory') as folder");
  await client.end();
  const log = join(rows[0].folder, "log/plans.json");
  const before = (await readFile(log)).length;
  // Not of plans: `create index` has none.
  const options = "-c log_min_duration_statement=100 -c auto_explain.log_min_duration=-1";
  const run = await runCommand({ env }, ["migrate", "--config", file], { PGOPTIONS: options });
  const lines = (await readFile(log)).subarray(before).toString().split("\n");
  const statements = lines.flatMap((line) => {
    const [, ms, text] =
      /^\{.*"message":"duration: ([\d.]+) ms {2}(?:statement|execute [^:]*): ((?:[^"\\]|\\.)*)"/.exec(line) ??
      [];
    return text === undefined || !/index|alter|update|insert/i.test(text) ? [] : [{ ms: Number(ms), text }];
  });
  return {
    title: "Migration",
    note: "The command `migrate` on a database of the version before the newest migrations that build indexes, and its statements that took 100 ms or more.",
    lines: [
      {
        name: "`migrate`",
        figures: {
          ms: run.ms,
          outcome: (run.code === 0 ? run.output : `exit ${run.code}: ${run.error}`)
            .trim()
            .replace(/\s+/g, " "),
        },
      },
      ...statements.map(({ ms, text }) => ({
        name: `\`${text
          .replace(/\\[nt"]/g, " ")
          .replace(/\s+/g, " ")
          .replaceAll("|", "\\|")
          .slice(0, 120)}\``,
        figures: { ms },
      })),
    ],
  };
}
