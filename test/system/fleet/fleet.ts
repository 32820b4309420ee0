import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Envoy, envoy } from "../../../dev/demo/envoy.ts";
import { freePort } from "../../../dev/demo/free-port.ts";
import { runProgram, type Sidecar, sidecar } from "../../../dev/demo/sidecar.ts";
import type { GatewaySettings } from "../../../dev/demo/stack.ts";
import type { StackConfig } from "../../../dev/demo/stack-config.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { createTestDatabase } from "../../support/postgres.ts";

/** One Envoy of the fleet. It knows nothing but its bootstrap, its credential file and its certificate. */
export interface FleetEnvoy {
  readonly name: string;
  readonly envoyPort: number;
  readonly adminUrl: string;
  /** Stops it and starts it again; `ready: false` does not wait until it serves. */
  restart(options?: { readonly ready: false }): Promise<void>;
  isReady(): Promise<boolean>;
  close(): Promise<void>;
}

/** Three Envoys and two sidecars on one Postgres, without a shared folder. */
export interface Fleet {
  /** The first sidecar, and users. */
  readonly stack: E2e;
  readonly envoys: readonly FleetEnvoy[];
  /** The file with which the Envoys authenticate. */
  readonly credential: string;
  readonly secrets: { readonly admin: string; readonly xds: string; readonly nextXds: string };
  second(): Sidecar;
  startSecond(): Promise<void>;
  /** A request to the admin API of a sidecar. */
  admin(method: string, path: string, body?: object, of?: 0 | 1): Promise<Response>;
  /** A series of a sidecar's metrics. */
  metric(series: string, of: 0 | 1): Promise<number>;
  close(): Promise<void>;
}

const secret = () => randomBytes(32).toString("base64url");
const loopback = async () => `127.0.0.1:${await freePort()}`;

/** @param config further changes of the routes file */
export async function startFleet(
  options: {
    readonly names?: readonly string[];
    readonly config?: (config: StackConfig) => StackConfig;
  } = {},
): Promise<Fleet> {
  const database = await createTestDatabase();
  const folder = await mkdtemp(join(tmpdir(), "fleet-"));
  const env = { DATABASE_URL: database.url };
  const own = { grpc: await loopback(), http: await loopback(), admin: await loopback() };
  const xds = [await loopback(), await loopback()] as const;
  const secrets = { admin: secret(), xds: secret(), nextXds: secret() };
  const credential = join(folder, "credential", "xds.yaml");
  const envoys: FleetEnvoy[] = [];
  const certificate = { certificate: join(folder, "tls.pem"), key: join(folder, "tls-key.pem") };
  const verified = { ca: join(folder, "ca.pem"), server_name: "sidecar.internal" };
  const stack = await startE2e({
    folder,
    env,
    names: ["sidecar.internal", "envoy.internal", ...(options.names ?? [])],
    config(config) {
      const { listen, envoy: settings } = Object(config);
      const changed = {
        ...config,
        listen: {
          ...listen,
          // Everything between Envoys and sidecars is encrypted.
          grpc_tls: {
            ...certificate,
            client_ca: join(folder, "ca.pem"),
            client_names: ["DNS:envoy.internal"],
          },
          http_tls: certificate,
          xds: {
            address: xds[0],
            ...certificate,
            secret: [secrets.xds, secrets.nextXds],
          },
        },
        envoy: {
          ...settings,
          // Relative to each Envoy: all have the same configuration, on one machine here.
          listen: "unix:/proc/self/cwd/mcp.sock",
          sidecar: {
            grpc: [listen.grpc, own.grpc],
            http: [listen.http, own.http],
            grpc_tls: { ...verified, ...certificate },
            http_tls: verified,
            xds: {
              addresses: xds,
              ...verified,
              credential,
            },
          },
        },
        admin_api: { admin_tokens: [secrets.admin] },
      };
      return options.config?.(changed) ?? changed;
    },
    async gateway(places) {
      await mkdir(join(folder, "credential"));
      await writeFile(
        credential,
        await runProgram(undefined, [
          ...["envoy-config", "--format", "xds-credential"],
          ...["--config", places.configFile],
        ]),
        { mode: 0o600 },
      );
      const bootstrap = await runProgram(undefined, [
        ...["envoy-config", "--format", "xds-bootstrap"],
        ...["--config", places.configFile],
      ]);
      const starting = [1, 2, 3].map((index) => startFleetEnvoy(places, bootstrap, index));
      envoys.push(...(await Promise.all(starting)));
      return { pid: -1, logFile: "", exited: new Promise(() => {}), close: async () => {} };
    },
  });
  let current: Sidecar;
  const startSecond = async () => {
    current = await sidecar({
      configFile: stack.configFile,
      logFile: join(folder, "second.log"),
      env,
      args: [
        ...["--listen-grpc", own.grpc, "--listen-http", own.http],
        ...["--listen-admin", own.admin, "--listen-xds", xds[1]],
      ],
    });
  };
  await startSecond();
  const admins = [stack.adminUrl, `http://${own.admin}`] as const;

  return {
    stack,
    envoys,
    credential,
    secrets,
    second: () => current,
    startSecond,
    admin: (method, path, body, of = 0) =>
      fetch(`${admins[of]}/admin/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${secrets.admin}`, "content-type": "application/json" },
        body: body && JSON.stringify(body),
      }),
    async metric(series, of) {
      const text = await (await fetch(`${admins[of]}/metrics`)).text();
      return Number(text.split(`\nenvoy_mcp_auth_${series} `)[1]?.split("\n")[0] ?? 0);
    },
    async close() {
      for (const one of envoys) await one.close();
      current.kill("SIGKILL");
      await stack.close();
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function startFleetEnvoy(
  places: GatewaySettings,
  bootstrap: string,
  index: number,
): Promise<FleetEnvoy> {
  const name = `envoy-${index}`;
  const folder = join(places.folder, name);
  await mkdir(folder);
  const adminPort = await freePort();
  const start = () =>
    envoy({
      bootstrap: bootstrap.replace(`port_value: ${places.adminPort}`, `port_value: ${adminPort}`),
      folder,
      adminPort,
      args: ["--service-node", name],
    });
  const server = createServer((near) => {
    const far = connect(join(folder, "mcp.sock"));
    for (const socket of [near, far])
      socket
        .on("error", () => {})
        .once("close", () => {
          near.destroy();
          far.destroy();
        });
    near.pipe(far).pipe(near);
  });
  // The first one is where the stack's users go.
  const envoyPort = index === 1 ? places.port : await freePort();
  await new Promise<void>((resolve) => server.listen(envoyPort, "127.0.0.1", resolve));
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  let running: Promise<Envoy> = start();
  await running;
  return {
    name,
    envoyPort,
    adminUrl,
    async restart({ ready }: { ready: boolean } = { ready: true }) {
      await (await running).close();
      running = start();
      if (ready) await running;
      else running.catch(() => {});
    },
    isReady: () =>
      fetch(`${adminUrl}/ready`).then(
        ({ ok }) => ok,
        () => false,
      ),
    async close() {
      server.close();
      await (await running).close();
    },
  };
}
