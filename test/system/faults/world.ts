import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { certificateAuthority } from "../../../dev/demo/certificate-authority.ts";
import { envoy } from "../../../dev/demo/envoy.ts";
import { freePort } from "../../../dev/demo/free-port.ts";
import { loopbackFetch } from "../../../dev/demo/loopback-fetch.ts";
import type { OidcServer } from "../../../dev/demo/oidc-server.ts";
import { openidProvider } from "../../../dev/demo/openid-provider.ts";
import { programFile } from "../../../dev/demo/sidecar.ts";
import { envoyBinary } from "../../../envoy/envoy-binary.ts";
import { createSigningKeys } from "../../../src/external-tokens/signing-keys.ts";
import { loadKeyEncryptionKeys } from "../../../src/store/encryption/load-keys.ts";
import { migrate } from "../../../src/store/migrate.ts";
import { openStore } from "../../../src/store/open-store.ts";
import type { Store } from "../../../src/store/store.ts";
import { createLogger } from "../../../src/telemetry/logger.ts";
import { type PostgresServer, startPostgres } from "../../support/start-postgres.ts";
import { startTcpProxy, type TcpProxy } from "../../support/tcp-proxy.ts";
import type { Call } from "./load.ts";
import { type OwnerServer, ownerServer } from "./owner-server.ts";
import { type Replica, replica } from "./replica.ts";
import {
  type RotatingAuthorizationServer,
  rotatingAuthorizationServer,
} from "./rotating-authorization-server.ts";
import { createSeed, type Seed } from "./seed.ts";
import {
  issuer,
  keyVariables,
  type Listeners,
  publicHost,
  resourceOf,
  type WorldConfig,
  worldConfig,
} from "./world-config.ts";

export interface World {
  readonly folder: string;
  readonly users: readonly string[];
  readonly routes: readonly string[];
  /** One call per user and route; a fault may replace the list. */
  calls: Call[];
  readonly grants: ReadonlyMap<string, string>;
  readonly fetch: typeof globalThis.fetch;
  /** Envoy: its public port, its CA, its admin endpoint. */
  readonly edge: { readonly port: number; readonly ca: string; readonly admin: string };
  readonly postgres: PostgresServer;
  /** The replica without Postgres. */
  readonly embedded: boolean;
  readonly server: RotatingAuthorizationServer;
  readonly upstream: OwnerServer;
  readonly openid: OidcServer;
  readonly replicas: readonly Replica[];
  /** The test's direct connection to the database; closed if the database is embedded. */
  readonly store: Store;
  readonly seed: Seed;
  /** Makes the test's store encrypt with this key. */
  encryptWith(kid: keyof typeof keyVariables): void;
  /** Rewrites every replica's routes file. */
  writeRoutes(change?: (config: WorldConfig) => WorldConfig): Promise<void>;
  /** Runs the command line like an operator; returns its output. */
  command(...args: string[]): Promise<string>;
  /** The same in a pipe; returns the reader's output, and the command's exit code and errors. */
  piped(reader: string, ...args: string[]): Promise<{ output: string; ended: string }>;
  query(statement: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

export interface WorldOptions {
  readonly replicas: number;
  readonly users: number;
  readonly routes: number;
  /** Lifetime of the upstream's access tokens. */
  readonly lifeSeconds?: number;
  /** Setting `upstream_oauth.timeout`: its own default. */
  readonly upstreamTimeout?: string;
  /** For many calls: a connection for each, and no proxies in front of Postgres, which this busy process would serve. */
  readonly direct?: boolean;
  /** Directory of an embedded database instead of Postgres; then there is one replica. */
  readonly embeddedDir?: string;
  readonly progress?: (line: string) => void;
}

/** Starts a real Postgres, `replicas` sidecars, Envoy in front of them, and `users` x `routes` connections with short-lived tokens. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const one of closers.splice(0).reverse()) await one();
  };
  try {
    return await build(options, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function build(
  options: WorldOptions,
  closers: (() => Promise<unknown>)[],
  close: () => Promise<void>,
): Promise<World> {
  const { progress = () => {}, lifeSeconds = 20, embeddedDir } = options;
  const keep = <T extends { close(): Promise<unknown> }>(part: T): T => {
    closers.push(() => part.close());
    return part;
  };
  const folder = await mkdtemp(join(tmpdir(), "faults-"));
  if (!process.env.FAULTS_KEEP) closers.push(() => rm(folder, { recursive: true, force: true }));

  progress("Postgres, authorization server, MCP server, OpenID provider");
  const postgres = keep(await startPostgres());
  await migrate({ url: postgres.url });
  const server = keep(await rotatingAuthorizationServer({ lifeSeconds }));
  const upstream = keep(await ownerServer(server));
  const client = { clientId: "gateway", clientSecret: randomBytes(16).toString("hex") };
  const openid = keep(
    await openidProvider({
      clients: [
        {
          client_id: client.clientId,
          client_secret: client.clientSecret,
          redirect_uris: [`${issuer}/.pomerium/sign_in/callback`],
        },
      ],
    }),
  );

  // It may have to be installed first, and stored tokens would expire in the meantime.
  await envoyBinary();
  const { files: tls, ca } = await certificateAuthority(folder, [publicHost, new URL(issuer).hostname]);
  const [envoyPort, envoyAdmin] = [await freePort(), await freePort()];
  const secrets = {
    [keyVariables.k1]: randomBytes(32).toString("base64url"),
    [keyVariables.k2]: randomBytes(32).toString("base64url"),
  };
  const routes = Array.from({ length: options.routes }, (_, index) => `r${index}`);
  const users = Array.from({ length: options.users }, (_, index) => `company/user${index}`);
  const upstreamOf = (routeId: string) => `${upstream.url}/${routeId}`;
  const databaseOf = (proxy?: TcpProxy) => {
    const url = new URL(postgres.url);
    if (proxy) url.port = String(proxy.port);
    return url.href;
  };

  const all: Listeners[] = [];
  const replicas: Replica[] = [];
  for (let index = 0; index < options.replicas; index++) {
    const [grpc, http, admin] = [await freePort(), await freePort(), await freePort()].map(loopback);
    if (!grpc || !http || !admin) continue;
    all.push({ grpc, http, admin });
    const { hostname: host, port } = new URL(postgres.url);
    const operations = keep(await startTcpProxy({ host, port: Number(port) }));
    const listening = keep(await startTcpProxy({ host, port: Number(port) }));
    const database: Record<string, string> = options.direct
      ? { DATABASE_URL: databaseOf() }
      : { DATABASE_URL: databaseOf(operations), DATABASE_LISTEN_URL: databaseOf(listening) };
    replicas.push(
      keep(
        replica({
          file: join(folder, `replica${index}.yaml`),
          logFile: join(folder, `replica${index}.log`),
          admin: `http://${admin}`,
          operations,
          listening,
          env: { ...secrets, ...(embeddedDir === undefined && database) },
        }),
      ),
    );
  }
  const writeRoutes: World["writeRoutes"] = async (change = (same) => same) => {
    for (const [index, listeners] of all.entries()) {
      const config = worldConfig({
        listeners,
        all,
        database: embeddedDir === undefined ? {} : { dir: embeddedDir },
        server,
        openid: { issuer: openid.issuer, ...client },
        envoy: { listen: loopback(envoyPort), admin: loopback(envoyAdmin) },
        tls,
        routes,
        upstreamOf,
        upstreamTimeout: options.upstreamTimeout ?? "10s",
      });
      const file = replicas[index]?.file ?? "";
      // JSON is valid YAML.
      await writeFile(file, JSON.stringify(change(config)), { mode: 0o600 });
    }
  };
  await writeRoutes();

  progress(`${users.length} users x ${routes.length} routes`);
  const logger = createLogger({ level: "silent" });
  const sources = Object.entries(keyVariables).map(([kid, env]) => ({ kid, env }));
  let sealing = await loadKeyEncryptionKeys(sources, { env: secrets });
  const reversed = await loadKeyEncryptionKeys(sources.toReversed(), { env: secrets });
  const store = keep(
    await openStore({
      ...(embeddedDir === undefined ? { url: postgres.url, dir: "/nonexistent" } : { dir: embeddedDir }),
      keys: {
        newest: () => sealing.newest(),
        encryptionKey: () => sealing.encryptionKey(),
        decryptionKey: (header) => sealing.decryptionKey(header),
      },
      logger,
      // Long timeout, so that the client is not the cause of a failure.
      operationTimeoutMs: 30_000,
    }),
  );
  const keys = await createSigningKeys({ store, logger });
  closers.push(async () => keys.close());
  const urlsOf = (routeId: string) => ({ resource: resourceOf(routeId), upstream: upstreamOf(routeId) });
  const seed = createSeed({ store, keys, server, issuer, urlsOf });
  const calls: Call[] = [];
  const grants = new Map<string, string>();
  for (const [index, userId] of users.entries()) {
    const grantId = await seed.grant(userId);
    grants.set(userId, grantId);
    for (const [at, routeId] of routes.entries()) {
      // Spread, so that not all expire at once.
      await seed.connect(userId, routeId, lifeSeconds - ((index * routes.length + at) % lifeSeconds));
      calls.push(await seed.call(userId, grantId, routeId));
    }
  }
  if (embeddedDir !== undefined) await store.close();

  progress(`${replicas.length} replicas, Envoy`);
  for (const one of replicas) await one.start();
  const run = (executable: string, args: readonly string[]) =>
    promisify(execFile)(executable, args, {
      env: { ...process.env, ...secrets, DATABASE_URL: postgres.url },
      maxBuffer: 16 * 1024 * 1024,
    });
  const programWith = (args: readonly string[]) => [
    programFile,
    ...args,
    "--config",
    replicas[0]?.file ?? "",
  ];
  const command: World["command"] = async (...args) =>
    (await run(process.execPath, programWith(args))).stdout;
  const piped: World["piped"] = async (reader, ...args) => {
    const script = `{ "$@"; echo "exit code $?" >&2; } | ${reader}`;
    const { stdout, stderr } = await run("/bin/sh", [
      "-c",
      script,
      "sh",
      process.execPath,
      ...programWith(args),
    ]);
    return { output: stdout, ended: stderr };
  };
  keep(await envoy({ bootstrap: await command("envoy-config"), folder, adminPort: envoyAdmin }));
  // One HTTP/2 connection has room for a hundred calls.
  const { fetch } = keep(loopbackFetch(ca, envoyPort, { allowH2: !options.direct }));
  const admin = new pg.Pool({ connectionString: postgres.url, max: 2 });
  admin.on("error", () => {});
  closers.push(() => admin.end());

  return {
    folder,
    users,
    routes,
    calls,
    grants,
    fetch,
    edge: { port: envoyPort, ca, admin: `http://${loopback(envoyAdmin)}` },
    postgres,
    embedded: embeddedDir !== undefined,
    server,
    upstream,
    openid,
    replicas,
    store,
    seed,
    encryptWith(kid) {
      if (sealing.newest() !== kid) sealing = reversed;
    },
    writeRoutes,
    command,
    piped,
    async query(statement) {
      for (let attempt = 1; ; attempt++) {
        try {
          return (await admin.query(statement)).rows;
        } catch (error) {
          if (attempt === 20) throw error;
          await delay(100);
        }
      }
    },
    close,
  };
}

const loopback = (port: number) => `127.0.0.1:${port}`;
