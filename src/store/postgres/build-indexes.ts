import { Kysely, PostgresDialect, type PostgresPool, sql } from "kysely";
import pg from "pg";
import type { Logger } from "pino";
import { boundFirstPartition, isFirstPartitionUnbounded } from "../audit-partitions.ts";
import type { Database, StoreMetrics } from "../database.ts";
import {
  type IndexDefinitions,
  type Indexes,
  knownIndexes,
  type PendingIndex,
  pendingIndexes,
} from "../indexes.ts";
import type { Tables } from "../tables.ts";
import { type PostgresTls, postgresAddress } from "./pool.ts";

/** Arbitrary constant, the same in all versions: who holds it builds indexes. Two concurrent builds on one table would deadlock. */
const lockId = 7_021_884_523_117_094n;
/** A server that lost its client cancels the build within this. */
const clientCheckInterval = "10s";
const connectTimeoutMs = 10_000;

/** How a build goes on, for logs and the command line. */
export interface IndexProgress {
  readonly index: string;
  readonly state: "started" | "building" | "built";
  /** Postgres' name of the current phase, for example `building index: scanning table`. */
  readonly phase?: string;
  /** Of the current phase. */
  readonly percent?: number;
  readonly seconds: number;
}

export interface IndexBuild {
  /** Supports sessions: not a transaction-mode pooler. Its user owns the tables. */
  readonly url: string;
  readonly tls: PostgresTls;
  /** For short queries beside the build. */
  readonly db: Kysely<Tables>;
  readonly wanted: IndexDefinitions;
  /** Cancels the build on the server. */
  readonly signal: AbortSignal;
  readonly report: (progress: IndexProgress) => void;
  /** How often progress is reported, ms (30000). */
  readonly reportEveryMs?: number;
}

/**
 * Builds the pending indexes with `create index concurrently`, which blocks neither reads nor writes, and waits for transactions that
 * began before it; then divides the audit trail into partitions, if that has not happened yet. The lock belongs to the session that builds: it is held exactly as long as the server builds.
 * @returns `elsewhere`: another process is building them
 * @throws the database's error; what an interrupted build leaves behind is removed by the next one
 */
export async function buildIndexes(build: IndexBuild): Promise<"built" | "elsewhere" | "interrupted"> {
  const pending = await pendingIndexes(build.db, build.wanted);
  if (pending.length === 0 && !(await isFirstPartitionUnbounded(build.db))) return "built";
  const client = new pg.Client({
    ...postgresAddress(build.url, build.tls),
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    application_name: "envoy-mcp-auth indexes",
  });
  // A lost connection rejects the statement; without a listener it would end the process, too.
  client.on("error", () => {});
  try {
    await client.connect();
    const pid = await prepare(client);
    const lock = await client.query<{ held: boolean }>("select pg_try_advisory_lock($1) as held", [lockId]);
    if (!lock.rows[0]?.held) return "elsewhere";
    // Another process may have built some in the meantime.
    for (const index of await pendingIndexes(build.db, build.wanted)) {
      if (build.signal.aborted) return "interrupted";
      await buildOne(client, pid, index, build);
    }
    if (build.signal.aborted) return "interrupted";
    await canceled(build, pid, client, () => boundFirstPartition(overClient(client), new Date()));
    return "built";
  } catch (error) {
    if (build.signal.aborted) return "interrupted";
    throw error;
  } finally {
    // Ends the session and with it the lock. On a dead network, `end` alone would not close the socket.
    client.end().catch(() => {});
    client.connection.stream.destroy();
  }
}

/** Queries over this one connection, which its owner closes. */
function overClient(client: pg.Client): Kysely<Tables> {
  const pool: PostgresPool = {
    options: {},
    connect: async () => ({ query: client.query.bind(client), release() {} }),
    end: async () => {},
  };
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
}

/** Runs `work`, and cancels what the server does for it once the build is aborted. */
async function canceled<T>(
  { db, signal }: Pick<IndexBuild, "db" | "signal">,
  pid: number,
  client: pg.Client,
  work: () => Promise<T>,
): Promise<T> {
  let canceling: NodeJS.Timeout | undefined;
  const cancel = () => {
    sql`select pg_cancel_backend(${pid})`
      .execute(db)
      // Without an answer, the server notices the closed connection.
      .catch(() => client.connection.stream.destroy());
    // A statement that the server had not yet begun was not canceled.
    canceling = setTimeout(cancel, 500);
  };
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await work();
  } finally {
    clearTimeout(canceling);
    signal.removeEventListener("abort", cancel);
  }
}

/** No timeout applies to a build: it waits for the transactions of others, and takes as long as the table is large. */
async function prepare(client: pg.Client): Promise<number> {
  await client.query(
    `select set_config(name, '0', false) from pg_settings
     where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout')`,
  );
  // Not on every platform.
  await client
    .query("select set_config('client_connection_check_interval', $1, false)", [clientCheckInterval])
    .catch(() => {});
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  return Number(rows[0]?.pid);
}

async function buildOne(
  client: pg.Client,
  pid: number,
  { name, definition, invalid }: PendingIndex,
  build: IndexBuild,
): Promise<void> {
  const { db, signal, report, reportEveryMs = 30_000 } = build;
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 1_000);
  report({ index: name, state: "started", seconds: 0 });
  const progress = setInterval(() => {
    phaseOf(db, pid).then(
      (phase) => report({ index: name, state: "building", ...phase, seconds: seconds() }),
      () => {},
    );
  }, reportEveryMs);
  progress.unref();
  const identifier = client.escapeIdentifier(name);
  try {
    await canceled(build, pid, client, async () => {
      if (invalid) await client.query(`drop index concurrently if exists ${identifier}`);
      signal.throwIfAborted();
      await client.query(`create index concurrently if not exists ${identifier} ${definition}`);
    });
  } finally {
    clearInterval(progress);
  }
  report({ index: name, state: "built", seconds: seconds() });
}

async function phaseOf(
  db: Kysely<Tables>,
  pid: number,
): Promise<Pick<IndexProgress, "phase" | "percent"> | undefined> {
  const { rows } = await sql<{ phase: string; percent: number | null }>`
    select phase, case
      when blocks_total > 0 then floor(100.0 * blocks_done / blocks_total)::int
      when tuples_total > 0 then floor(100.0 * tuples_done / tuples_total)::int
      when lockers_total > 0 then floor(100.0 * lockers_done / lockers_total)::int
    end as percent
    from pg_stat_progress_create_index where pid = ${pid}`.execute(db);
  const [row] = rows;
  return row && { phase: row.phase, ...(row.percent !== null && { percent: row.percent }) };
}

/** How long after a failure, or while another process builds, a process looks again, ms. */
const retryMs = 60_000;

/**
 * The indexes of a Postgres server. `buildInBackground` builds them over a connection of its own.
 * @param deps.isNewer whether a newer version is responsible for the indexes
 */
export function serverIndexes(
  build: Omit<IndexBuild, "signal" | "report">,
  deps: {
    readonly database: Pick<Database, "read">;
    readonly logger: Logger;
    readonly metrics?: Pick<StoreMetrics, "storeIndexesPending">;
    readonly isNewer: () => Promise<boolean>;
    readonly retryMs?: number;
  },
): Indexes & { stop(): Promise<void> } {
  const { database, logger, metrics } = deps;
  const find = () => database.read("index.pending", (db) => pendingIndexes(db, build.wanted));
  const stop = new AbortController();
  let wake: (() => void) | undefined;
  let running: Promise<void> | undefined;

  const report = ({ state, ...progress }: IndexProgress) =>
    logger.info(
      progress,
      state === "built" ? "an index was built" : "an index is being built; reads and writes go on",
    );
  /** @returns whether all of them are built */
  async function attempt(): Promise<boolean> {
    const unbounded = () => database.read("audit_event.unbounded", isFirstPartitionUnbounded);
    const pending = (await find()).length;
    metrics?.storeIndexesPending.set(pending);
    if ((pending === 0 && !(await unbounded())) || (await deps.isNewer())) return true;
    await buildIndexes({ ...build, signal: stop.signal, report });
    const left = (await find()).length;
    metrics?.storeIndexesPending.set(left);
    return left === 0 && !(await unbounded());
  }
  async function keepBuilding(): Promise<void> {
    while (!stop.signal.aborted) {
      const done = await attempt().catch((error: unknown) => {
        if (!stop.signal.aborted) logger.warn({ err: error }, "building an index failed; it is tried again");
        return false;
      });
      if (done || stop.signal.aborted) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
        // Jitter, so that replicas do not look at the same moment.
        setTimeout(resolve, (deps.retryMs ?? retryMs) * (0.75 + Math.random() / 2)).unref();
      });
    }
  }
  return {
    ...knownIndexes(find),
    buildInBackground() {
      running ??= keepBuilding();
    },
    async stop() {
      stop.abort();
      wake?.();
      await running;
    },
  };
}
