import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import type { Logger } from "pino";
import { boundedPool } from "./bounded-pool.ts";
import { type PostgresTls, postgresAddress } from "./postgres-tls.ts";
import type { Tables } from "./tables.ts";

/** `int8` as a number: ours are counts and versions, far below 2^53. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: "text" | "binary") =>
    oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format ?? "text"),
};

/**
 * A pool on Postgres 14 or newer. Connecting and being lent are both bounded by `timeoutMs`; a broken connection is logged,
 * dropped and replaced, and never ends the process.
 */
export function openPostgres(options: {
  url: string;
  tls?: PostgresTls;
  timeoutMs: number;
  connectTimeoutMs?: number;
  size: number;
  name: string;
  logger: Logger;
}): Kysely<Tables> {
  const pool = new pg.Pool({
    ...postgresAddress(options.url, options.tls ?? {}),
    max: options.size,
    connectionTimeoutMillis: options.connectTimeoutMs ?? options.timeoutMs,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    application_name: options.name,
    types,
    // By statement, for PgBouncer refuses them as start-up parameters. They free locks that a replica which vanished holds.
    onConnect: (client) =>
      client.query(
        `set statement_timeout = ${options.timeoutMs}; set idle_in_transaction_session_timeout = ${options.timeoutMs}`,
      ),
  });
  const broken = (error: Error) =>
    options.logger.debug({ err: error.message, pool: options.name }, "a database connection broke");
  pool.on("error", broken);
  // While a client is lent, the pool does not listen; an unheard "error" event would end the process.
  pool.on("connect", (client) => client.on("error", broken));
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: boundedPool(pool, options.timeoutMs) }) });
}
