import { readFileSync } from "node:fs";
import { Kysely, PostgresDialect, type PostgresPool } from "kysely";
import pg, { type ClientConfig, type Pool } from "pg";
import type { Logger } from "pino";
import { StoreMisconfigured } from "../errors.ts";
import type { Tables } from "../tables.ts";

/** How the connection to Postgres is protected; wins over what the URL says of it. */
export interface PostgresTls {
  /** `verify-full`: TLS, the server's certificate and name are verified. `disable`: none. Absent: as the URL says (`sslmode`). */
  readonly tls?: "verify-full" | "disable";
  /** PEM file of the authorities that may have signed the server's certificate; default: those that Node trusts. */
  readonly tlsCa?: string;
}

/** Parameters of a URL that say how it is protected; `sslcert` and `sslkey` say who we are, and stay. */
const parameters = ["ssl", "sslmode", "sslrootcert", "sslnegotiation", "uselibpqcompat"];

/**
 * The part of `pg`'s configuration that says where the server is and how it is protected.
 * @throws StoreMisconfigured `database_tls_invalid` when the file of authorities cannot be read
 */
export function postgresAddress(
  url: string,
  { tls, tlsCa }: PostgresTls,
): Pick<ClientConfig, "connectionString" | "ssl"> {
  if (tls === undefined) return { connectionString: url };
  const bare = new URL(url);
  for (const name of parameters) bare.searchParams.delete(name);
  if (tls === "disable") return { connectionString: `${bare}`, ssl: false };
  const ca = tlsCa === undefined ? {} : { ca: readAuthorities(tlsCa) };
  const own: { cert?: string; key?: string } = {};
  for (const [parameter, field] of [
    ["sslcert", "cert"],
    ["sslkey", "key"],
  ] as const) {
    const path = bare.searchParams.get(parameter);
    if (path !== null) own[field] = readAuthorities(path);
    // pg would take the URL's word for everything else, too.
    bare.searchParams.delete(parameter);
  }
  return { connectionString: `${bare}`, ssl: { rejectUnauthorized: true, ...ca, ...own } };
}

function readAuthorities(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new StoreMisconfigured("database_tls_invalid", `database.tls_ca: cannot read ${path}`, error);
  }
}

/**
 * A pool whose connections are lent for at most `timeoutMs`, then destroyed: a query on a black-holed connection fails in time,
 * a COMMIT can no longer follow an operation that its caller has already given up, and nobody inherits a stuck connection.
 */
export function boundedPool(pool: Pool, timeoutMs: number): PostgresPool {
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      // The pool sets `release` anew every time it lends the client.
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
