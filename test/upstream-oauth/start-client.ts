import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { type CurrentRoutes, createRouteTable, type RouteTable } from "../../src/config/route-table.ts";
import type { ResolveHost } from "../../src/egress/resolve-host.ts";
import { createSigningKeys, type SigningKeyRing } from "../../src/external-tokens/signing-keys.ts";
import type { Route } from "../../src/model/route.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { createUpstreamOAuth } from "../../src/upstream-oauth/create-upstream-oauth.ts";
import type { UpstreamOAuth, UpstreamOAuthDeps } from "../../src/upstream-oauth/upstream-oauth.ts";
import { createUpstreamTokens } from "../../src/upstream-tokens/create-upstream-tokens.ts";
import type { UpstreamTokens } from "../../src/upstream-tokens/upstream-tokens.ts";
import { backends } from "../store/backends.ts";

/** One replica's OAuth client and token rooms. */
export interface Replica {
  readonly store: Store;
  readonly oauth: UpstreamOAuth;
  readonly tokens: UpstreamTokens;
  readonly keys: SigningKeyRing;
  readonly metrics: Metrics;
  close(): Promise<void>;
}
export interface ClientHouse extends Replica {
  readonly routes: CurrentRoutes;
  route(id?: string): Route;
  /** Log lines, all levels. */
  readonly log: string[];
  /** Another replica on the same database. */
  replica(): Promise<Replica>;
  /** @param settings in place of those that the house was started with */
  reconfigure(yaml: string, settings?: string): Promise<void>;
  query(statement: string): Promise<Record<string, unknown>[]>;
  /** A whole consent trip of `userId`, as long as the server's part is played by `agree`. */
  connect(agree: (location: string) => URLSearchParams, userId?: string, routeId?: string): Promise<void>;
}

export const alice = "company/alice";
export const host = "mcp.test";

/** The real rooms on a real Postgres. `settings` is YAML of the top level, `providers` of those who sign people in; loopback is open unless it says otherwise. */
export async function startClient(
  routesYaml: string,
  options: { settings?: string; providers?: string; resolveHost?: ResolveHost } & Pick<
    UpstreamOAuthDeps,
    "refreshSignIn"
  > = {},
): Promise<ClientHouse> {
  const folder = await mkdtemp(join(tmpdir(), "oauth-client-"));
  const backend = await backends.postgres();
  const settings = options.settings ?? "upstream_oauth: {allowed_private_hosts: [127.0.0.1], timeout: 3s}";
  async function read(yaml: string, top = settings): Promise<RouteTable> {
    const file = join(folder, "routes.yaml");
    const providers = options.providers ?? "[{issuer: https://id.test, client_id: c, id: company}]";
    const head = `issuer: https://auth.test\nsign_in: {providers: ${providers}}\n`;
    const text = `${head}${top}\npolicy: {allow: {or: [{accept: true}]}}\nroutes:\n${yaml}\n`;
    await writeFile(file, text, { mode: 0o600 });
    const loaded = loadConfig(file, {});
    if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join("\n"));
    return createRouteTable(loaded.config);
  }
  let table = await read(routesYaml);
  const routes = () => table;
  const log: string[] = [];
  const logger = createLogger({ level: "trace", destination: { write: (line) => void log.push(line) } });
  const replicas: Replica[] = [];

  async function replica(): Promise<Replica> {
    const store = await backend.open({ logger });
    const metrics = createMetrics();
    const keys = await createSigningKeys({ store, logger });
    const common = { routes, store, keys, logger, metrics };
    const oauth = createUpstreamOAuth({
      ...common,
      resolveHost: options.resolveHost,
      refreshSignIn: options.refreshSignIn,
    });
    const tokens = createUpstreamTokens({ ...common, upstreamOAuth: oauth, refreshAheadEveryMs: 0 });
    const made: Replica = {
      store,
      oauth,
      tokens,
      keys,
      metrics,
      async close() {
        await tokens.close();
        await oauth.close();
        keys.close();
        await store.close();
      },
    };
    replicas.push(made);
    return made;
  }

  const first = await replica();
  const route = (id = "files") => {
    const found = table.byId(id);
    if (!found) throw new Error(`no route ${id}`);
    return found;
  };
  return {
    ...first,
    routes,
    route,
    log,
    replica,
    query: backend.query,
    async reconfigure(yaml, other) {
      table = await read(yaml, other);
    },
    async connect(agree, userId = alice, routeId = "files") {
      const returnTo = "https://mcp.test/done";
      const asked = { userId, route: route(routeId), returnTo };
      let begun = await first.oauth.begin(asked);
      // The person goes on from the page that says where the way leads, and for what.
      if (!begun.ok && begun.notice) begun = await first.oauth.begin({ ...asked, shown: begun.notice });
      if (!begun.ok) throw new Error(begun.message);
      for (let next: { location: string; state: string } | undefined = begun; next; ) {
        const params = agree(next.location);
        const callback = new URL(next.location).searchParams.get("redirect_uri") ?? "";
        const browserState = next.state;
        const finished = await first.oauth.finish({ params, callback, host, userId, browserState });
        if (!finished.ok) throw new Error(finished.message);
        next = finished.again;
      }
    },
    async close() {
      await Promise.all(replicas.map((one) => one.close()));
      await backend.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
