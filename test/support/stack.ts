import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Components, compose, type Foundation } from "../../src/compose.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { createRouteTable, type RouteTable } from "../../src/config/route-table.ts";
import { buildStoredRoutes, type StoredEntry, type UnusableRows } from "../../src/config/stored-routes.ts";
import { migrateOldRecord } from "../../src/sign-in/providers.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { backends } from "../store/backends.ts";
import { startTcpProxy, type TcpProxy } from "./tcp-proxy.ts";
import { undeclaredValues } from "./undeclared-values.ts";

/** By default nothing is fetched, and no token is refreshed in the background. */
export type StackOptions = Partial<
  Pick<Foundation, "trustedFetch" | "untrustedFetch" | "resolveHost" | "refreshAheadEveryMs">
> & {
  /** `databaseProxy` is between the replicas and the database: bytes cost more CPU time. */
  readonly interruptible?: boolean;
};

/** All components of one replica. `createX({ ...replica, part })` builds one of them with a replaced dependency. */
export interface Replica extends Components, Pick<Foundation, "resolveHost" | "refreshAheadEveryMs" | "now"> {
  /** `close` runs before earlier parts are closed. */
  beforeClose(close: () => unknown): void;
  /** Closes it and its store. */
  close(): Promise<void>;
}

/** The first replica, and what all replicas share. */
export interface Stack extends Replica {
  /** Log lines of all replicas, all levels. */
  readonly log: string[];
  /** Moves the components' clock forward, ms. */
  readonly clock: { offset: number };
  /** Between the replicas and the database of an `interruptible` stack. */
  readonly databaseProxy: Pick<TcpProxy, "cut" | "restore">;
  /** Runs one statement on the database, bypassing the proxy. */
  query(statement: string): Promise<Record<string, unknown>[]>;
  /** Loads another or a changed routes file. */
  reload(yaml: string | ((current: string) => string)): Promise<void>;
  /** Adds stored routes to those of the routes file, until it is loaded again. */
  useStored(...stored: [entries: readonly StoredEntry[], unusable?: UnusableRows]): void;
  /** Another replica on the same database. */
  replica(): Promise<Replica>;
  /** Closes all replicas, the newest first, and deletes everything that the stack created. */
  close(): Promise<void>;
}

/**
 * All components, wired as in production, with a separate routes file and database. Nothing listens.
 * @param yaml the routes file
 */
export async function startStack(yaml: string, options: StackOptions = {}): Promise<Stack> {
  const closers = inReverse();
  try {
    return await start(yaml, options, closers);
  } catch (error) {
    await closers.close();
    throw error;
  }
}

async function start(
  yaml: string,
  { interruptible, ...options }: StackOptions,
  { beforeClose, close }: ReturnType<typeof inReverse>,
): Promise<Stack> {
  const folder = await mkdtemp(join(tmpdir(), "stack-"));
  beforeClose(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "routes.yaml");
  let text = yaml;
  let table = await load(file, yaml);

  const database = await backends.postgres();
  beforeClose(database.close);
  const url = new URL(database.url);
  let databaseProxy: Stack["databaseProxy"] = { cut: noInterrupting, restore: noInterrupting };
  if (interruptible) {
    const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
    beforeClose(proxy.close);
    url.host = `127.0.0.1:${proxy.port}`;
    databaseProxy = proxy;
  }

  const log: string[] = [];
  const logger = createLogger({ level: "trace", destination: { write: (line) => void log.push(line) } });
  const clock = { offset: 0 };
  const common = {
    routes: () => table,
    logger,
    trustedFetch: noFetching,
    untrustedFetch: noFetching,
    refreshAheadEveryMs: 0,
    now: () => Date.now() + clock.offset,
    ...options,
  };

  async function replica(): Promise<Replica> {
    const own = inReverse();
    beforeClose(own.close);
    const metrics = createMetrics();
    const store = await database.open({
      url: url.href,
      logger,
      metrics,
      migratePerson: (record) => migrateOldRecord(record, table.config.signIn.providers),
    });
    own.beforeClose(store.close);
    const components = await compose({ ...common, store, metrics });
    own.beforeClose(components.close);
    own.beforeClose(async () => {
      const undeclared = await undeclaredValues(metrics);
      if (undeclared.length > 0)
        throw new Error(`not in src/telemetry/label-values.ts: ${undeclared.join(", ")}`);
    });
    return { ...common, ...components, ...own };
  }

  return {
    ...(await replica()),
    log,
    clock,
    databaseProxy,
    query: database.query,
    async reload(next) {
      const wanted = typeof next === "string" ? next : next(text);
      table = await load(file, wanted, table);
      text = wanted;
    },
    useStored(...stored) {
      table = createRouteTable(buildStoredRoutes(table.config, ...stored).config, table);
    },
    replica,
    close,
  };
}

async function load(file: string, yaml: string, before?: RouteTable): Promise<RouteTable> {
  await writeFile(file, yaml, { mode: 0o600 });
  const loaded = loadConfig(file, {});
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join("\n"));
  const { limits } = loaded.config;
  // Allocating caches for 20,000 users takes a quarter of a stack's start time.
  const cacheEntries = Math.min(limits.cacheEntries, 500);
  return createRouteTable({ ...loaded.config, limits: { ...limits, cacheEntries } }, before);
}

const noInterrupting = () => Promise.reject(new Error("the stack was not started with `interruptible`"));
const noFetching = () => Promise.reject(new Error("nothing is fetched in this test"));

/** Closes the last part first, and each only once. */
function inReverse() {
  const closers: (() => unknown)[] = [];
  return {
    beforeClose: (close: () => unknown) => void closers.push(close),
    async close() {
      for (let last = closers.pop(); last; last = closers.pop()) await last();
    },
  };
}
