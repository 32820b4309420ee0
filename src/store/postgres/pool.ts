import { readFileSync } from "node:fs";
import { Kysely, PostgresDialect, type PostgresPool } from "kysely";
import pg, { type ClientConfig, type Pool } from "pg";
import type { Logger } from "pino";
import { boundedTime, timestamptz } from "../database.ts";
import { StoreMisconfigured } from "../errors.ts";
import type { Tables } from "../tables.ts";

/** TLS settings of the connection to Postgres; take precedence over the URL. */
export interface PostgresTls {
  /** `verify-full`: TLS with verified certificate and name. `disable`: no TLS. Absent: as in the URL (`sslmode`). */
  readonly tls?: "verify-full" | "disable";
  /** PEM file of the CAs for the server's certificate; default: the CAs that Node trusts. */
  readonly tlsCa?: string;
}

/** TLS parameters of a URL, without `sslcert` and `sslkey`, which name the client certificate. */
const parameters = ["ssl", "sslmode", "sslrootcert", "sslnegotiation", "uselibpqcompat"];

/**
 * The address and TLS part of `pg`'s configuration.
 * @throws StoreMisconfigured `database_tls_invalid` if the CA file cannot be read
 */
export function postgresAddress(
  url: string,
  { tls, tlsCa }: PostgresTls,
): Pick<ClientConfig, "connectionString" | "ssl"> {
  if (tls === undefined) return { connectionString: url };
  const bare = new URL(url);
  for (const name of parameters) bare.searchParams.delete(name);
  if (tls === "disable") return { connectionString: `${bare}`, ssl: false };
  const ca = tlsCa === undefined ? {} : { ca: readPem(tlsCa) };
  const own: { cert?: string; key?: string } = {};
  for (const [parameter, field] of [
    ["sslcert", "cert"],
    ["sslkey", "key"],
  ] as const) {
    const path = bare.searchParams.get(parameter);
    if (path !== null) own[field] = readPem(path);
    // With these parameters, pg would also apply all other TLS settings of the URL.
    bare.searchParams.delete(parameter);
  }
  return { connectionString: `${bare}`, ssl: { rejectUnauthorized: true, ...ca, ...own } };
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new StoreMisconfigured("database_tls_invalid", `database.tls_ca: cannot read ${path}`, error);
  }
}

/**
 * A pool that lends connections for at most `timeoutMs` and then destroys them: a query on a dead connection fails in time, an
 * operation that its caller has abandoned can no longer COMMIT, and no caller gets a stuck connection.
 */
export function boundedPool(pool: Pool, timeoutMs: number): PostgresPool {
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      // The pool sets `release` each time it lends the client.
      const release = client.release;
      let expired = false;
      const timer = setTimeout(() => {
        expired = true;
        release(new Error("connection held too long"));
      }, timeoutMs);
      timer.unref();
      client.release = (destroy) => {
        clearTimeout(timer);
        if (!expired) release(destroy);
      };
      return client;
    },
  };
}

const parseTime = pg.types.getTypeParser(timestamptz, "text");

/** `int8` as a number: all values are counts and versions, far below 2^53. */
const types: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (oid === pg.types.builtins.INT8) return Number;
    if (oid === timestamptz && format !== "binary")
      return (text: string) => boundedTime(text, parseTime(text));
    return pg.types.getTypeParser(oid, format ?? "text");
  },
};

/**
 * A connection pool for Postgres 14 or newer. `timeoutMs` limits both connecting and lending. A broken connection is logged, dropped
 * and replaced, and never ends the process.
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
    // As statements, because PgBouncer rejects them as startup parameters. They release the locks of a replica that is gone.
    onConnect: (client) =>
      client.query(
        `set statement_timeout = ${options.timeoutMs}; set idle_in_transaction_session_timeout = ${options.timeoutMs}`,
      ),
  });
  const broken = (error: Error) =>
    options.logger.debug({ err: error.message, pool: options.name }, "database connection lost");
  pool.on("error", broken);
  // The pool does not handle errors of a lent client; an unhandled "error" event would end the process.
  pool.on("connect", (client) => client.on("error", broken));
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: boundedPool(pool, options.timeoutMs) }) });
}
