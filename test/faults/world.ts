import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { certificateAuthority } from "../../deploy/demo/certificate-authority.ts";
import { envoy } from "../../deploy/demo/envoy.ts";
import { freePort } from "../../deploy/demo/free-port.ts";
import { loopbackFetch } from "../../deploy/demo/loopback-fetch.ts";
import type { OidcServer } from "../../deploy/demo/oidc-server.ts";
import { openidProvider } from "../../deploy/demo/openid-provider.ts";
import { type Sidecar, sidecar } from "../../deploy/demo/sidecar.ts";
import { createSigningKeys } from "../../src/external-token/create-signing-keys.ts";
import type { SigningKeyRing } from "../../src/external-token/signing-key-ring.ts";
import { loadKeyEncryptionKeys } from "../../src/store/load-key-encryption-keys.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { type PostgresServer, startPostgres } from "../support/start-postgres.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import type { Call } from "./load.ts";
import { type OwnerServer, ownerServer } from "./owner-server.ts";
import {
  type RotatingAuthorizationServer,
  rotatingAuthorizationServer,
} from "./rotating-authorization-server.ts";
import { createSeed, type Seed } from "./seed.ts";

export const cli = join(import.meta.dirname, "../../src/cli.ts");
export const issuer = "https://auth.test";
const host = "mcp.test";

/** One of the replicas: a process, its files and its two wires to the database. */
export interface Replica {
  readonly file: string;
  readonly admin: string;
  readonly env: Record<string, string>;
  /** What it reads and writes by, and what it listens by. */
  readonly operations: TcpProxy;
  readonly listening: TcpProxy;
  process(): Sidecar;
  kill(): Promise<void>;
  terminate(): Promise<void>;
  /** @param env on top of the usual */
  start(env?: Readonly<Record<string, string>>): Promise<void>;
}

export interface World {
  readonly folder: string;
  readonly users: readonly string[];
  readonly routes: readonly string[];
  /** One call per user and route; a fault may exchange the list. */
  calls: Call[];
  readonly grants: ReadonlyMap<string, string>;
  readonly fetch: typeof globalThis.fetch;
  readonly envoyPort: number;
  readonly ca: string;
  readonly postgres: PostgresServer;
  readonly server: RotatingAuthorizationServer;
  readonly upstream: OwnerServer;
  readonly openid: OidcServer;
  readonly replicas: readonly Replica[];
  /** Ours, straight to the database. */
  readonly store: Store;
  readonly keys: SigningKeyRing;
  readonly seed: Seed;
  /** Rewrites every replica's routes file. */
  writeRoutes(change?: (config: Record<string, unknown>) => unknown): Promise<void>;
  /** Runs the command line as an operator would; returns what it printed. */
  command(...args: string[]): Promise<string>;
  query(statement: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

/** Starts a real Postgres, `replicas` sidecars, Envoy over them, and `users` x `routes` connections with 20 s tokens. */
export async function startWorld(options: {
  replicas: number;
  users: number;
  routes: number;
  lifeSeconds?: number;
  progress?: (line: string) => void;
}): Promise<World> {
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
  options: Parameters<typeof startWorld>[0],
  closers: (() => Promise<unknown>)[],
  close: () => Promise<void>,
): Promise<World> {
  const { progress = () => {}, lifeSeconds = 20 } = options;
  const keep = <T extends { close(): Promise<unknown> }>(part: T): T => {
    closers.push(() => part.close());
    return part;
  };
  const folder = await mkdtemp(join(tmpdir(), "faults-"));
  if (!process.env.FAULTS_KEEP) closers.push(() => rm(folder, { recursive: true, force: true }));
  progress("Postgres, authorization server, MCP server");
  const postgres = keep(await startPostgres());
  await migrate({ url: postgres.url });
  const server = keep(await rotatingAuthorizationServer({ lifeSeconds }));
  const upstream = keep(await ownerServer(server));
  const openidSecret = randomBytes(16).toString("hex");
  const openid = keep(
    await openidProvider({
      clients: [
        {
          client_id: "gateway",
          client_secret: openidSecret,
          redirect_uris: [`${issuer}/.pomerium/sign_in/callback`],
        },
      ],
    }),
  );
  const authority = await certificateAuthority(folder, [host, new URL(issuer).hostname]);
  const [envoyPort, envoyAdmin] = [await freePort(), await freePort()];
  const key = randomBytes(32).toString("base64url");
  const routes = Array.from({ length: options.routes }, (_, index) => `r${index}`);
  const users = Array.from({ length: options.users }, (_, index) => `company/user${index}`);
  const resource = (routeId: string) => `https://${host}/${routeId}`;
  const upstreamOf = (routeId: string) => `${upstream.url}/${routeId}`;
  const placed: Replica[] = [];
  const places: { grpc: string; http: string; admin: string }[] = [];

  const config = (place: (typeof places)[number]) => ({
    issuer,
    listen: place,
    database: {},
    encryption: { keys: [{ kid: "k1", env: "FAULTS_KEY" }] },
    sign_in: {
      recheck: "1s",
      providers: [
        {
          id: "company",
          issuer: openid.issuer,
          client_id: "gateway",
          client_secret: openidSecret,
          scopes: ["openid", "email", "offline_access"],
        },
      ],
    },
    upstream_oauth: { allowed_private_hosts: ["127.0.0.1", "localhost"], timeout: "2s" },
    envoy: {
      listen: `127.0.0.1:${envoyPort}`,
      admin: `127.0.0.1:${envoyAdmin}`,
      tls: { certificate: authority.files.certificate, key: authority.files.key },
      upstream_ca: authority.files.ca,
      sidecar: { grpc: places.map(({ grpc }) => grpc), http: places.map(({ http }) => http) },
    },
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
    routes: [
      ...routes.map((id) => ({
        id,
        from: resource(id),
        to: upstreamOf(id),
        mcp: {
          server: {
            upstream_oauth2: {
              client_id: server.clientId,
              client_secret: server.clientSecret,
              endpoint: {
                auth_url: `${server.url}/authorize`,
                token_url: `${server.url}/token`,
                revocation_url: `${server.url}/revoke`,
                auth_style: "client_secret_basic",
              },
            },
          },
        },
      })),
      {
        id: "open",
        from: resource("open"),
        to: upstreamOf("open"),
        mcp: { server: { upstream_auth: "none" } },
      },
    ],
  });
  const writeRoutes: World["writeRoutes"] = async (change = (same) => same) => {
    // JSON is YAML.
    for (const [index, place] of places.entries())
      await writeFile(join(folder, `replica${index}.yaml`), JSON.stringify(change(config(place))), {
        mode: 0o600,
      });
  };

  const { hostname, port } = new URL(postgres.url);
  const through = (proxy: TcpProxy) => {
    const url = new URL(postgres.url);
    url.port = String(proxy.port);
    return url.href;
  };
  for (let index = 0; index < options.replicas; index++) {
    const [grpc, http, admin] = [await freePort(), await freePort(), await freePort()];
    places.push({ grpc: `127.0.0.1:${grpc}`, http: `127.0.0.1:${http}`, admin: `127.0.0.1:${admin}` });
    const operations = keep(await startTcpProxy({ host: hostname, port: Number(port) }));
    const listening = keep(await startTcpProxy({ host: hostname, port: Number(port) }));
    const file = join(folder, `replica${index}.yaml`);
    const env: Record<string, string> = {
      FAULTS_KEY: key,
      DATABASE_URL: through(operations),
      DATABASE_LISTEN_URL: through(listening),
    };
    let current: Sidecar | undefined;
    const running = () => {
      if (!current) throw new Error(`replica ${index} does not run`);
      return current;
    };
    placed.push({
      file,
      admin: `http://127.0.0.1:${admin}`,
      env,
      operations,
      listening,
      process: running,
      async kill() {
        running().kill("SIGKILL");
        await running().exited;
        current = undefined;
      },
      async terminate() {
        running().kill("SIGTERM");
        await running().exited;
        current = undefined;
      },
      async start(more = {}) {
        current = await sidecar({
          configFile: file,
          logFile: join(folder, `replica${index}.log`),
          env: { ...env, ...more },
        });
      },
    });
    closers.push(async () => current?.close());
  }
  await writeRoutes();

  progress(`${options.replicas} replicas`);
  for (const replica of placed) await replica.start();
  const logger = createLogger({ level: "silent" });
  const store = keep(
    await openStore({
      url: postgres.url,
      dir: "/nonexistent",
      keys: await loadKeyEncryptionKeys([{ kid: "k1", env: "KEY" }], { env: { KEY: key } }),
      logger,
    }),
  );
  const keys = await createSigningKeys({ store, logger });
  closers.push(async () => keys.close());
  const seed = createSeed({
    store,
    keys,
    server,
    issuer,
    place: (routeId) => ({ resource: resource(routeId), upstream: upstreamOf(routeId) }),
  });
  progress(`${users.length} users x ${routes.length} routes`);
  const calls: Call[] = [];
  const grants = new Map<string, string>();
  for (const [index, userId] of users.entries()) {
    const grantId = await seed.grant(userId);
    grants.set(userId, grantId);
    await Promise.all(
      routes.map(async (routeId, at) => {
        // Spread, so that expiries do not come in one wave.
        await seed.connect(userId, routeId, 1 + ((index * routes.length + at) % lifeSeconds));
        calls.push(await seed.call(userId, grantId, routeId));
      }),
    );
  }

  progress("Envoy");
  const first = placed[0];
  if (!first) throw new Error("at least one replica is needed");
  const command: World["command"] = async (...args) => {
    const { stdout } = await promisify(execFile)(process.execPath, [cli, ...args, "--config", first.file], {
      env: { ...process.env, FAULTS_KEY: key, DATABASE_URL: postgres.url, ...extraEnv() },
      maxBuffer: 16 * 1024 * 1024,
    });
    return stdout;
  };
  const extraEnv = () =>
    Object.fromEntries(Object.entries(first.env).filter(([name]) => name.startsWith("FAULTS_")));
  keep(await envoy({ bootstrap: await command("envoy-config"), folder, adminPort: envoyAdmin }));
  const { fetch, close: closeFetch } = loopbackFetch(authority.ca, envoyPort);
  closers.push(closeFetch);

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
    envoyPort,
    ca: authority.ca,
    postgres,
    server,
    upstream,
    openid,
    replicas: placed,
    store,
    keys,
    seed,
    writeRoutes,
    command,
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
