import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import pg from "pg";
import { removeExpiredEvents } from "../src/audit-trail/audit-record.ts";
import { checkpointVerifier } from "../src/audit-trail/chain.ts";
import { createChain } from "../src/audit-trail/chain-events.ts";
import { verifyTrail } from "../src/audit-trail/verify-trail.ts";
import { createSigningKeys } from "../src/external-tokens/signing-keys.ts";
import { loadKeyEncryptionKeys } from "../src/store/encryption/load-keys.ts";
import { openStore } from "../src/store/open-store.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { startPostgres } from "../test/support/start-postgres.ts";
import { tablesMarkdown } from "./report/markdown.ts";
import type { Line } from "./report/report.ts";
import { describeNoise, sampleSpeed, ticksOf, watchNoise } from "./world/noise.ts";
import { mostResidentMiB } from "./world/resident.ts";

/*
 * `make bench-audit`: two processes write audit events at a fixed rate while a third one chains them, and a partition with expired events
 * is dropped halfway. Measures how long events wait for the chain, and what an event costs; then verifies the chain.
 *
 *   node bench/audit-record.ts [--rate 1000] [--seconds 60] [--write docs/performance.md]
 */
const { values } = parseArgs({
  options: {
    rate: { type: "string", default: "1000" },
    seconds: { type: "string", default: "60" },
    write: { type: "string" },
  },
});
const [rate, seconds] = [Number(values.rate), Number(values.seconds)];
const writers = 2;
const expiredEvents = 500_000;
/** Nearly those of ten minutes at this rate: the chain looks back as far. */
const backlog = rate * 500;
const dayMs = 86_400_000;
const noise = watchNoise();
const startedAt = performance.now();
const server = await startPostgres(undefined, { settings: { fsync: "on", full_page_writes: "on" } });
const env = { ...process.env, DATABASE_URL: server.url, BENCH_KEY: "A".repeat(43) };
const logger = createLogger({ level: "silent" });
const dir = join(import.meta.dirname, "../.bench");
mkdirSync(dir, { recursive: true });
let text: string;
try {
  const store = await openStore({
    ...{ url: server.url, dir, logger, operationTimeoutMs: 60_000 },
    keys: await loadKeyEncryptionKeys([{ kid: "bench", env: "BENCH_KEY" }], { env }),
  });
  const { auditTrail: trail } = store;
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  // What ends the server ends this run.
  client.on("error", () => {});
  const one = async (query: string) => (await client.query(query)).rows[0];
  // As in a database that has been in use for longer than the first partition.
  const [first = ""] = await trail.partitions.names();
  await client.query(`drop table ${first}`);
  await trail.partitions.createAhead(new Date(Date.now() - 40 * dayMs), 30);
  await trail.partitions.createAhead(new Date(), 30);
  await client.query(`
    insert into audit_event (action, user_id, route_id, at)
    select 'upstream_token.refreshed', 'company/person-' || n, 'route-1', now() - interval '40 days' from generate_series(1, ${expiredEvents}) n`);
  await client.query(`
    insert into audit_event (action, user_id, route_id, at)
    select 'upstream_token.refreshed', 'company/person-' || n, 'route-1', clock_timestamp() - n * interval '1 second' / ${rate}
    from generate_series(1, ${backlog}) n order by n desc`);
  await client.query("vacuum analyze");
  const postmaster = Number((await one("select pg_read_file('postmaster.pid') as text")).text.split("\n")[0]);
  const replica = (...args: string[]) =>
    fork(join(import.meta.dirname, "servers/audit-replica.ts"), args, { env });

  /** @returns what each writer measured, and CPU time of Postgres, ms */
  async function write(forSeconds: number) {
    const before = ticksOf(postmaster);
    const results = await Promise.all(
      Array.from({ length: writers }, async () => {
        const writer = replica("writer", String(rate / writers), String(forSeconds));
        const ended = once(writer, "exit").then(() => Promise.reject(new Error("a writer has ended")));
        const [measured] = await Promise.race([once(writer, "message"), ended]);
        writer.disconnect();
        return measured as Written;
      }),
    );
    return { results, postgresMs: (ticksOf(postmaster) - before) * 10 };
  }
  const alone = await write(Math.ceil(seconds / 3));

  const keys = await createSigningKeys({ store, logger });
  const verify = checkpointVerifier(keys.jwks("audit"));
  const keeper = replica("keeper");
  await once(keeper, "message");
  const keptAt = performance.now();
  while (!(await chainedAll())) await delay(500);
  const backlogMs = performance.now() - keptAt;
  const keeperBefore = ticksOf(keeper.pid);
  const begun = await one(
    "select coalesce(max(id), 0) as id, pg_total_relation_size('audit_batch') as batches from audit_event",
  );
  const sizeBefore = await partitionBytes();

  let [finished, over] = [false, false];
  const waits: { events: number; ms: number }[] = [];
  const watching = (async () => {
    for (let seen = (await trail.latest())?.number ?? 0; !over; await delay(100)) {
      const batches = await trail.batches(seen, 100);
      for (const { number, ids, firstAt } of batches) {
        seen = number;
        waits.push({ events: ids.length, ms: Date.now() - firstAt.getTime() });
      }
      sampleSpeed();
      over = finished && batches.length === 0 && (await chainedAll());
    }
  })();
  const dropping = delay((seconds / 2) * 1_000).then(async () => {
    const chain = createChain({ trail, signer: () => keys.signer("audit"), verify, onProblem: () => {} });
    const beganAt = performance.now();
    const removed = await removeExpiredEvents(trail, chain, new Date(Date.now() - 30 * dayMs));
    return { ms: performance.now() - beganAt, partitions: removed?.partitions ?? 0 };
  });
  const chained = await write(seconds);
  const dropped = await dropping;
  finished = true;
  await watching;
  const keeperMs = (ticksOf(keeper.pid) - keeperBefore) * 10;
  const keeperMiB = mostResidentMiB(keeper.pid ?? 0);
  keeper.kill("SIGTERM");
  await once(keeper, "exit");
  const found = await verifyTrail({ trail, verify });
  const size = await one(
    "select pg_total_relation_size('audit_batch') as batches, max(id) as id from audit_event",
  );
  const count = sum(chained.results, "written");
  const batchBytes = (Number(size.batches) - Number(begun.batches)) / count;
  const eventBytes = ((await partitionBytes()) - sizeBefore) / count;

  async function partitionBytes() {
    const { bytes } = await one(
      "select pg_total_relation_size(tableoid::regclass) as bytes from audit_event order by at desc limit 1",
    );
    return Number(bytes);
  }
  async function chainedAll() {
    const { left } = await one(`
      select (select count(*) from audit_event where at > now() - interval '1 day')
        - (select coalesce(sum(jsonb_array_length(ids)), 0) from audit_batch) as left`);
    return Number(left) === 0;
  }
  const lines: Line[] = [
    writing("written, without a chain", alone.results),
    writing("written while another replica chains them", chained.results),
  ];
  const cost: Line[] = [
    {
      name: "Postgres: writing",
      figures: { "CPU ms": alone.postgresMs / sum(alone.results, "written") },
    },
    {
      name: "Postgres: writing and chaining",
      figures: { "CPU ms": chained.postgresMs / count },
    },
    { name: "the replica that writes", figures: { "CPU ms": sum(chained.results, "cpuMs") / count } },
    { name: "the replica that chains", figures: { "CPU ms": keeperMs / count } },
    { name: "the event, with its indexes", figures: { bytes: eventBytes } },
    { name: "its part of the chain", figures: { bytes: batchBytes } },
  ];
  const longest = Math.max(...waits.map(({ ms }) => ms));
  text = tablesMarkdown(
    [
      {
        title: "Audit events at a fixed rate",
        note: `${writers} processes write ${rate} events a second for ${seconds} s, each in a transaction of its own. Milliseconds from its beginning to its commit.`,
        lines,
      },
      {
        title: "The chain of audit events",
        note: `From the moment an event is written until a batch with it is seen, by polling every 100 ms. Halfway, ${dropped.partitions} partitions with ${expiredEvents.toLocaleString("en")} expired events are dropped. Before, ${backlog.toLocaleString("en")} events of the last minutes are chained (backlog). At the end, the whole chain is verified.`,
        lines: [
          {
            name: "this run",
            figures: {
              "events chained": waits.reduce((all, { events }) => all + events, 0),
              batches: waits.length,
              "longest wait, s": longest / 1_000,
              "within 5 s": longest <= 5_000 ? "yes" : "**no**",
              "backlog, s": backlogMs / 1_000,
              "expiry, ms": dropped.ms,
              "replica that chains, MiB": keeperMiB,
              "verified events": found.verified,
              "problems found": found.findings.length,
            },
          },
        ],
      },
      { title: "Cost of an audit event", note: "Per event, of the same run.", lines: cost },
    ],
    `\`node bench/audit-record.ts --rate ${rate} --seconds ${seconds}\`. ${cpus().length} × ${cpus()[0]?.model ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux, Node ${process.version}, Postgres on the same cores, with \`fsync\`. ${describeNoise(noise())} ${new Date().toISOString().slice(0, 10)}, ${Math.round((performance.now() - startedAt) / 1_000)} s.`,
  );
  keys.close();
  await client.end();
  await store.close();
} finally {
  await server.close();
}
writeFileSync(join(dir, "audit-record.md"), text);
console.log(text);
if (values.write !== undefined) {
  const [open, close] = ["<!-- audit-record -->", "<!-- /audit-record -->"];
  const page = readFileSync(values.write, "utf8");
  const [start, end] = [page.indexOf(open), page.indexOf(close)];
  if (start < 0 || end < start) throw new Error(`${values.write} has no ${open} ... ${close}`);
  writeFileSync(values.write, `${page.slice(0, start + open.length)}\n\n${text}\n${page.slice(end)}`);
}

interface Written {
  readonly written: number;
  readonly errors: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
  readonly cpuMs: number;
}

function sum(results: readonly Written[], key: keyof Written): number {
  return results.reduce((total, one) => total + one[key], 0);
}

function writing(name: string, results: readonly Written[]): Line {
  return {
    name,
    figures: {
      "events/s": sum(results, "perSecond"),
      "p50 ms": Math.max(...results.map(({ p50 }) => p50)),
      "p99 ms": Math.max(...results.map(({ p99 }) => p99)),
      "longest ms": Math.max(...results.map(({ longest }) => longest)),
      errors: sum(results, "errors"),
    },
  };
}
