import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { migrate } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import type { Store } from "../../src/store/store.ts";
import { fillTables, smallTables, tablesOf } from "../support/fill-tables.ts";
import { type Finding, scansOfGrowingTables } from "../support/plan-findings.ts";
import { type ExecutedOperation, openPlanLog, planLogSettings, withoutPlans } from "../support/plan-log.ts";
import { type PostgresServer, startPostgres } from "../support/start-postgres.ts";
import { logger, makeKeys } from "./backends.ts";
import { runEveryOperation, runMaintenance } from "./every-operation.ts";

/*
 * A statement that reads a table from end to end is fast in every test and stops a company with a million connections. So this test runs
 * every operation of the store against tables with some rows, reads the plans from the server's log, and fails for each statement whose
 * work grows with the number of users. A new table or operation is covered without being named here.
 */

/** Operations that read whole tables on purpose, and why that is right. `*` is any table. */
const deliberate: Readonly<Record<string, string>> = {
  "audit_event.list":
    "reads stretches of 20,000 events by primary key, so that a rare filter takes no long statement",
  "authorization_server_record.grant_page":
    "reads pages in the order of an index; what it skips are expired grants, which do not stay for long",
  end_access: "deletes everything, after a restore from a backup",
};

/** Operations that this test does not run, and why. */
const notRun: Readonly<Record<string, string>> = {
  "audit_event.unbounded": "reads the catalog only, after an upgrade",
  "audit_event.create_partition": "defines a partition every few days",
  "audit_event.drop_partition": "drops a partition every few days",
  "row_mac.create": "runs once, before the tables are filled",
  "row_mac.bound": "runs once, after an upgrade from a version without MACs",
  "*.find_unbound": "the same, in pages by primary key",
  "*.bind": "the same, by primary key",
  "row_pass.release": "only after an interruption; the table has one row per kind of pass",
  "background_work.renew": "only after 20 seconds, by primary key",
  "client_registration.clear": "only for a forged row, by primary key",
};

/** Of each table: more than any batch. */
const rows = 1_200;
const routes = 50;
/** All routes but one, whose connections belong to no route. */
const known = Array.from({ length: routes - 1 }, (_, n) => ({
  routeId: `route-${n}`,
  upstream: `https://upstream${n}.example.com/mcp`,
}));
let server: PostgresServer;
let growing: string[];
let operations: readonly ExecutedOperation[];
let findings: readonly Finding[];

beforeAll(async () => {
  // Without sequential scans, one that is left shows that no index can serve the statement, however small the table.
  server = await startPostgres(undefined, {
    settings: { ...planLogSettings, autovacuum: "off", enable_seqscan: "off" },
  });
  await migrate({ url: server.url });
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(withoutPlans);
  await fillTables(client, { connections: rows, routes, least: rows, keyId: "k2" });
  await client.query("vacuum analyze");
  // The planner estimates from the density of rows per page: it decides as for millions of rows.
  await client.query(`update pg_class set reltuples = reltuples * 1000
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')`);
  growing = (await tablesOf(client)).filter((table) => !(table in smallTables));
  const indexes = await client.query(
    "select indexname, tablename from pg_indexes where schemaname = 'public'",
  );
  const tableOfIndex = new Map(indexes.rows.map(({ indexname, tablename }) => [indexname, tablename]));
  await client.end();

  const log = await openPlanLog(server.url);
  const run = async (kids: readonly string[], work: (store: Store) => Promise<void>) => {
    let together: string[] = [];
    let running = 0;
    const store = await openStore({
      ...{ url: server.url, dir: "/nonexistent", keys: await makeKeys(...kids), logger },
      // Operations run one after another, so what was executed since the last one ended belongs to this one. A notification may have
      // caused another meanwhile: what both have executed counts as the first one's.
      async inSpan(_name, attributes, operation) {
        together.push(attributes["db.operation.name"] ?? "");
        running++;
        try {
          return await operation();
        } finally {
          if (--running === 0) {
            const ended = together;
            together = [];
            for (const name of ended) await log.end(name);
          }
        }
      },
    });
    await work(store).finally(() => store.close());
  };
  await run(["k1"], (store) => runEveryOperation(store, known));
  await run(["k2", "k1"], runMaintenance);
  operations = await log.read();
  await log.close();
  findings = scansOfGrowingTables(operations, { growing: new Set(growing), tableOfIndex, atMost: 600 });
});
afterAll(() => server?.close());

it("runs every operation of the store", () => {
  const run = [...new Set(operations.map(({ operation }) => operation))];
  const missing = declaredOperations().filter((name) => !(name in notRun) && !run.some(matcher(name)));
  expect(missing, "call them in every-operation.ts").toEqual([]);
});

it("reads no table that grows with users from end to end", () => {
  const excepted = Object.keys(deliberate).map(matcher);
  const unexpected = findings.filter(({ operation }) => !excepted.some((matches) => matches(operation)));
  expect(unexpected.map(described)).toEqual([]);
});

it("has no exception that is no longer needed", () => {
  const needless = Object.keys(deliberate).filter(
    (name) => !findings.some(({ operation }) => matcher(name)(operation)),
  );
  expect(needless).toEqual([]);
});

/** @param name of an operation, in which `*` is any table */
function matcher(name: string): (operation: string) => boolean {
  const pattern = new RegExp(`^${name.replaceAll(".", "\\.").replaceAll("*", "\\w+")}$`);
  return (operation) => pattern.test(operation);
}

const described = ({ operation, table, problem, text }: Finding) =>
  `${operation}: ${problem} of ${table}: ${text.replace(/\s+/g, " ").slice(0, 300)}`;

/** The names of all operations in the store's code, with `*` for what is computed. */
function declaredOperations(): string[] {
  const folder = join(import.meta.dirname, "../../src/store");
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  const call = /\.(?:read|write|writeAtOnce)\(\s*["`]([^"`]+)["`]/g;
  const names = files.flatMap((name) =>
    [...readFileSync(join(folder, name), "utf8").matchAll(call)].map(([, operation = ""]) =>
      operation.replace(/\$\{[^}]*\}/g, "*"),
    ),
  );
  return [...new Set(names)];
}
