import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { loadKeyEncryptionKeys } from "../src/store/encryption/load-keys.ts";
import { openStore } from "../src/store/open-store.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { migrateTo } from "../test/store/migrate-to.ts";
import { openPlanLog } from "../test/support/plan-log.ts";
import { measureCommands } from "./large-database/commands.ts";
import { fillDatabase, sizes } from "./large-database/fill.ts";
import { measureOperations } from "./large-database/measure.ts";
import { measureMigration, versionBeforeIndexes } from "./large-database/migration.ts";
import { background, coldCheck, lists, pages } from "./large-database/operations.ts";
import { measureRotation } from "./large-database/rotation.ts";
import { requireSpace, startLargeServer } from "./large-database/server.ts";
import { measureServing } from "./large-database/serving.ts";
import { tablesMarkdown } from "./report/markdown.ts";
import type { Table } from "./report/report.ts";
import { prepareCheck } from "./world/check-call.ts";
import { describeNoise, sampleSpeed, watchNoise } from "./world/noise.ts";
import { startProcess } from "./world/start-process.ts";
import { startWorld } from "./world/world.ts";

/*
 * `make scale`: fills a Postgres with millions of connections and everything that belongs to them, and measures what the product does
 * with it: each statement with its plan, commands, start-up, first checks, a rolling restart, a migration, a rotation of keys.
 *
 *   node bench/large-database.ts [--connections 1000000] [--routes 10000] [--valid 10000] [--rotation 100000]
 *     [--dir /var/tmp] [--ciphertexts 1] [--write docs/performance.md]
 *
 * `--ciphertexts 0.3`: ciphertexts of that share of their real length, to try it on a small disk. `--write` puts the tables between the
 * marks `<!-- large-database -->` in a file.
 */
const { values } = parseArgs({
  options: {
    connections: { type: "string", default: "1000000" },
    routes: { type: "string", default: "10000" },
    valid: { type: "string", default: "10000" },
    rotation: { type: "string", default: "100000" },
    dir: { type: "string", default: "/var/tmp" },
    ciphertexts: { type: "string", default: "1" },
    write: { type: "string" },
  },
});
const connections = Number(values.connections);
const routes = Number(values.routes);
const startedAt = performance.now();
const noise = watchNoise();
const progress = (line: string) => {
  sampleSpeed();
  console.error(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(5)} s  ${line}`);
};
// Otherwise the exit handlers, which remove the data, do not run.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1));

const folder = join(import.meta.dirname, "../.bench");
mkdirSync(folder, { recursive: true });
await requireSpace(values.dir, connections, Number(values.ciphertexts)).catch((error: Error) => {
  console.error(error.message);
  process.exit(1);
});
const upstreamProcess = await startProcess({
  name: "upstream",
  command: [process.execPath, join(import.meta.dirname, "servers/upstream.ts")],
  folder,
  ready: /ready \S+/,
});
const upstream = /ready (\S+)/.exec(upstreamProcess.log())?.[1] ?? "";
const tokenEndpoint = `${upstream}/token`;
const server = await startLargeServer(values.dir);
const tables: Table[] = [];
/** Measures one part; if it fails, the other parts are still measured and printed. */
async function part(title: string, measured: Promise<Table>): Promise<void> {
  tables.push(
    await measured.catch((error: Error) => {
      process.exitCode = 1;
      return { title, note: `Failed: ${error.message}`, lines: [] };
    }),
  );
}
try {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  // What fails is reported by the next statement, or is the end of the server.
  client.on("error", () => {});
  await migrateTo(await versionBeforeIndexes(), { url: server.url });
  const filling = { connections, routes, upstream: `${upstream}/mcp`, share: Number(values.ciphertexts) };
  await fillDatabase(client, filling, progress);

  // The world opens the store, which migrates as well: this has to come first.
  const loopback = "127.0.0.1:0";
  const listen = { grpc: loopback, http: loopback, admin: loopback };
  const encryption = { keys: [{ kid: "bench", env: "BENCH_KEY" }] };
  const early = join(folder, "migrate.yaml");
  writeFileSync(early, JSON.stringify({ issuer: "https://auth.test", encryption, routes: [] }));
  const env = { DATABASE_URL: server.url, BENCH_KEY: "A".repeat(43) };
  await part("Migration", measureMigration(env, early, progress));

  const world = await startWorld(upstream, { postgres: server });
  try {
    progress(`${values.valid} valid connections`);
    const valid = await world.connections(Number(values.valid), { routes, tokenEndpoint, ownGrants: true });
    await client.query("analyze");
    tables.unshift(await sizes(client, connections));
    const [connection] = valid;
    if (!connection) throw new Error("there are no valid connections");

    const log = await openPlanLog(server.url);
    const store = await openStore({
      url: server.url,
      dir: folder,
      keys: await loadKeyEncryptionKeys([{ kid: "bench", env: "BENCH_KEY" }], { env: world.env }),
      logger: createLogger({ level: "silent" }),
      // The product gives up after three seconds; here, what takes longer is measured.
      operationTimeoutMs: 600_000,
    });
    const sample = {
      ...{
        store,
        connection,
        upstream: `${upstream}/mcp`,
        clientId: "https://client1.example.com/oauth/client.json",
      },
      routes: Array.from({ length: routes }, (_, n) => ({
        routeId: `route-${n}`,
        upstream: `${upstream}/mcp`,
      })),
    };
    for (const [title, operations] of Object.entries({
      "Background work, first round": background,
      "Background work, next round": background,
      "First check": coldCheck,
      "Pages of one person": pages,
      Lists: lists,
    }))
      await part(title, measureOperations(title, operations, sample, log, progress));
    await log.close();
    await store.close();

    const file = await world.routesFile("large-database", { routes, upstream, tokenEndpoint, listen });
    await part("Commands", measureCommands(world, file, connection.userId, progress));
    await part("Serving", measureServing(world, file, valid.map(prepareCheck), progress));
  } finally {
    await world.close();
  }
  await client.end();
  if (Number(values.rotation) > 0)
    await part(
      "Key rotation",
      measureRotation({
        serverUrl: server.url,
        upstream,
        connections: Number(values.rotation),
        progress,
      }),
    );
} finally {
  await server.close();
  await upstreamProcess.stop();
}

const [cpu] = cpus();
const seconds = Math.round((performance.now() - startedAt) / 1000);
const text = tablesMarkdown(
  tables,
  `${connections.toLocaleString("en")} connections, ${routes.toLocaleString("en")} routes${
    values.ciphertexts === "1"
      ? ""
      : `, ciphertexts of ${Number(values.ciphertexts) * 100}% of their real length`
  }. ${cpus().length} × ${cpu?.model ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux, Node ${process.version}. ${describeNoise(noise())} ${new Date().toISOString().slice(0, 10)}, ${seconds} s.`,
);
writeFileSync(join(folder, "large-database.md"), text);
console.log(text);
if (values.write !== undefined) {
  const [open, close] = ["<!-- large-database -->", "<!-- /large-database -->"];
  const page = readFileSync(values.write, "utf8");
  const [start, end] = [page.indexOf(open), page.indexOf(close)];
  if (start < 0 || end < start) throw new Error(`${values.write} has no ${open} ... ${close}`);
  writeFileSync(values.write, `${page.slice(0, start + open.length)}\n\n${text}\n${page.slice(end)}`);
}
