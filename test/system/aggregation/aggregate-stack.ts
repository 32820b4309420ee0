import { join } from "node:path";
import { parse, stringify } from "yaml";
import { freePort } from "../../../dev/demo/free-port.ts";
import { type Sidecar, sidecar } from "../../../dev/demo/sidecar.ts";
import type { StackConfig } from "../../../dev/demo/stack-config.ts";
import { type E2e, startE2e, type User } from "../../support/e2e.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { type ClientKind, type ClientOptions, connect, type TestClient } from "./clients.ts";
import type { Member } from "./members/member.ts";

/** A member's server, and changes of its route. */
export interface MemberOf {
  readonly member: Pick<Member, "url">;
  readonly route?: Readonly<Record<string, unknown>>;
}

/** Aggregated routes on a real Envoy, one or two sidecars, and users. */
export interface AggregateStack extends E2e {
  /** Connects a client with a token of the user, for the aggregated route on this host; closed with the stack. */
  connect(
    kind: ClientKind,
    options?: { readonly host?: string; readonly user?: User } & Partial<ClientOptions>,
  ): Promise<TestClient>;
  /** The user's token for a route on this host: the whole flow runs once. */
  token(host: string, user?: User): Promise<string>;
  /** The second sidecar, of two. */
  second(): Sidecar;
  startSecond(): Promise<void>;
}

/**
 * Starts members' routes on `NAME.members.test` and aggregated routes.
 *
 * @param options.members by the id of their routes
 * @param options.aggregates by their hosts: which members, and how their names begin
 * @param options.replicas 2: a second sidecar on the same database; Envoy alternates between both
 * @param options.affinity false: Envoy sends the requests of one session to either
 */
export async function startAggregateStack(options: {
  readonly members: Readonly<Record<string, MemberOf>>;
  readonly aggregates: Readonly<
    Record<string, { readonly routes: readonly string[] | "all"; readonly prefix?: string }>
  >;
  readonly replicas?: 1 | 2;
  readonly affinity?: false;
  readonly config?: (config: StackConfig) => StackConfig;
}): Promise<AggregateStack> {
  const { members, aggregates, replicas = 1 } = options;
  const closers: (() => Promise<unknown>)[] = [];
  const database = await createTestDatabase();
  closers.push(database.close);
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  const env = { DATABASE_URL: database.url };
  const loopback = async () => `127.0.0.1:${await freePort()}`;
  const memberListener = await loopback();
  const own = { grpc: await loopback(), http: await loopback(), admin: await loopback() };
  const hosts = [...Object.keys(members).map((name) => `${name}.members.test`), ...Object.keys(aggregates)];

  function config(given: StackConfig): StackConfig {
    const { listen, envoy } = Object(given);
    const both = { grpc: [listen.grpc, own.grpc], http: [listen.http, own.http] };
    const changed = {
      ...given,
      aggregation: { listen: memberListener },
      ...(replicas === 2 && { envoy: { ...envoy, sidecar: both } }),
      routes: [
        ...given.routes,
        ...Object.entries(members).map(([id, { member, route }]) => ({
          id,
          from: `https://${id}.members.test`,
          to: member.url,
          mcp: { server: { upstream_auth: "none" } },
          ...route,
        })),
        ...Object.entries(aggregates).map(([host, aggregate]) => ({
          id: `all-${host.split(".")[0]}`,
          name: `Everything at ${host}`,
          from: `https://${host}`,
          mcp: { aggregate },
        })),
      ],
    };
    return options.config?.(changed) ?? changed;
  }

  try {
    const stack = await startE2e({
      env,
      names: hosts,
      config,
      // Files that Envoy watches, one for each listener's routes, unless the bootstrap is changed.
      ...(options.affinity === false ? { bootstrap: withoutAffinity } : { xds: true }),
    });
    closers.push(stack.close);
    let second: Sidecar | undefined;
    const startSecond = async () => {
      second = await sidecar({
        configFile: stack.configFile,
        logFile: join(stack.configFile, "..", "second.log"),
        env,
        args: ["--listen-grpc", own.grpc, "--listen-http", own.http, "--listen-admin", own.admin],
      });
    };
    if (replicas === 2) await startSecond();
    closers.push(async () => second?.kill("SIGKILL"));

    const tokens = new Map<string, Promise<string>>();
    const token = (host: string, user: User = "alice") => {
      const key = `${user} ${host}`;
      const known = tokens.get(key) ?? stack.externalToken(user, `https://${host}`);
      tokens.set(key, known);
      return known;
    };
    const [firstHost = ""] = Object.keys(aggregates);
    const clients: TestClient[] = [];
    closers.push(() => Promise.all(clients.map((client) => client.close().catch(() => {}))));

    return {
      ...stack,
      token,
      async connect(kind, { host = firstHost, user, ...more } = {}) {
        const client = await connect(kind, {
          url: `https://${host}`,
          fetch: stack.fetch,
          token: more.token ?? (await token(host, user)),
          ...more,
        });
        clients.push(client);
        return client;
      },
      second() {
        if (!second) throw new Error("there is one sidecar");
        return second;
      },
      startSecond,
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** Requests of one session go to either sidecar, in turn. */
function withoutAffinity(bootstrap: string): string {
  const parsed = parse(bootstrap);
  const cluster = parsed.static_resources.clusters.find(
    ({ name }: { name: string }) => name === "sidecar_mcp",
  );
  if (cluster?.lb_policy === undefined) throw new Error("Envoy has no affinity for aggregated routes");
  for (const key of Object.keys(cluster)) if (/^(ring_hash|maglev)_lb_config$/.test(key)) delete cluster[key];
  cluster.lb_policy = "ROUND_ROBIN";
  return stringify(parsed);
}
