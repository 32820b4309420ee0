import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Koa from "koa";
import type { JWK } from "oidc-provider";
import { Agent, buildConnector, type RequestInit as UndiciInit, fetch as undiciFetch } from "undici";
import { listen } from "../../dev/demo/listen.ts";
import type { OidcServer } from "../../dev/demo/oidc-server.ts";
import { openidProvider } from "../../dev/demo/openid-provider.ts";
import { createAuthorizationServer } from "../../src/authorization-server/create-authorization-server.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { type CurrentRoutes, createRouteTable, type RouteTable } from "../../src/config/route-table.ts";
import { createExternalTokens } from "../../src/external-tokens/create-external-tokens.ts";
import type { ExternalTokens } from "../../src/external-tokens/external-tokens.ts";
import { createSigningKeys, type SigningKeyRing } from "../../src/external-tokens/signing-keys.ts";
import { createPortal } from "../../src/portal/create-portal.ts";
import { createSignIn } from "../../src/sign-in/create-sign-in.ts";
import { judgeOldRecord } from "../../src/sign-in/person-claims.ts";
import type { SignIn } from "../../src/sign-in/sign-in.ts";
import { openStore } from "../../src/store/open-store.ts";
import { createPeople } from "../../src/store/people.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { createUpstreamOAuth } from "../../src/upstream-oauth/create-upstream-oauth.ts";
import type { UpstreamOAuth } from "../../src/upstream-oauth/upstream-oauth.ts";
import { createUpstreamTokens } from "../../src/upstream-tokens/create-upstream-tokens.ts";
import type { UpstreamTokens } from "../../src/upstream-tokens/upstream-tokens.ts";
import { makeKeys } from "../store/backends.ts";
import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

type ConnectionState = "connected" | "not_needed" | "missing" | "unavailable" | "sign_in_needed";

/** Sign-in and authorization server behind a plain HTTP door, with the real store and the company's real OpenID provider. */
export interface House {
  readonly company: OidcServer;
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly signIn: SignIn;
  /** The authorization server of another replica, on the same database. */
  otherServer(): Promise<{ readonly fetch: typeof globalThis.fetch; close(): Promise<void> }>;
  /** `USER ROUTE` that policy denies. */
  readonly denied: Set<string>;
  /** Sign-in of another replica, as far as it knows nothing of what the first has under way. */
  replica(): SignIn;
  readonly keys: SigningKeyRing;
  readonly externalTokens: ExternalTokens;
  /** Every https host leads to the house. */
  readonly fetch: typeof globalThis.fetch;
  /** What a user's connection to a route is said to be; default `not_needed`. */
  readonly connections: Map<string, ConnectionState>;
  /** What the stand-in for the upstream's consent page does: connects, or comes back with this error, and parameters beside it. */
  connectOutcome: "connects" | "nothing" | { error: string; beside?: Readonly<Record<string, string>> };
  /** Client ID Metadata Documents by URL, as the injected `fetch` finds them. */
  readonly documents: Map<string, () => Response>;
  readonly log: string[];
  readonly metrics: Metrics;
  /** In place of the stand-in for the upstream's consent, where it was started with `upstreams`. */
  readonly upstreams?: { readonly oauth: UpstreamOAuth; readonly tokens: UpstreamTokens };
  /** Users whose connections were to be ended, for the company has refused them. */
  readonly gone: readonly string[];
  /** Its handler, for another listener (TLS). */
  readonly handler: RequestListener;
  /** The wire to the database. */
  readonly wire: TcpProxy;
  browser(): HttpBrowser;
  /** Lets a person's newest sign-in (or recheck) lie `seconds` back; resolves when the house has heard of it. */
  ageSignIn(userId: string, seconds: number): Promise<void>;
  /** Replaces the routes file while running. */
  reconfigure(change: (yaml: string) => string): Promise<void>;
  close(): Promise<void>;
}

const companySecret = "a-long-secret-of-the-company";

/**
 * @param extra YAML added at the top level
 * @param options.companyKeys private keys that the company signs with
 * @param options.upstreams whether upstreams are really asked and connected, with the portal
 */
export async function startHouse(
  extra = "",
  { companyKeys, upstreams = false }: { companyKeys?: readonly JWK[]; upstreams?: boolean } = {},
): Promise<House> {
  const folder = await mkdtemp(join(tmpdir(), "house-"));
  const company = await openidProvider({
    keys: companyKeys,
    clients: [
      {
        client_id: "sidecar",
        client_secret: companySecret,
        // With one provider, and with several.
        redirect_uris: ["", "/company", "/partner"].map(
          (id) => `https://auth.test/.pomerium/sign_in/callback${id}`,
        ),
      },
    ],
  });
  const file = join(folder, "routes.yaml");
  let yaml = routesFile(company.issuer, extra);
  let table = await load(file, yaml);
  const routes = () => table;

  const log: string[] = [];
  const logger = createLogger({ level: "trace", destination: { write: (line) => log.push(line) } });
  const metrics = createMetrics();
  const database = await createTestDatabase();
  const direct = new URL(database.url);
  const wire = await startTcpProxy({ host: direct.hostname, port: Number(direct.port) });
  const viaWire = new URL(database.url);
  viaWire.host = `127.0.0.1:${wire.port}`;
  const encryptionKeys = await makeKeys("k1");
  const open = () =>
    openStore({
      ...{ url: viaWire.href, dir: folder, keys: encryptionKeys, logger },
      judgePerson: (record) => judgeOldRecord(record, table.config.signIn.providers),
    });
  const store = await open();
  const keys = await createSigningKeys({ store, logger });
  const documents = new Map<string, () => Response>();
  const outward: typeof globalThis.fetch = async (input) => {
    const document = documents.get(String(input instanceof Request ? input.url : input));
    if (!document) throw new TypeError("fetch failed");
    return document();
  };
  const gone: string[] = [];
  const replica = () => {
    const made = createSignIn({ routes, store, fetch: globalThis.fetch, logger, metrics });
    made.onPersonRejected(async (userId) => gone.push(userId));
    return made;
  };
  const signIn = replica();
  const people = createPeople({ store, limits: { entries: 1000, bytes: 16 * 1024 * 1024 } });
  const externalTokens = createExternalTokens({
    routes,
    store,
    people,
    keys,
    fetch: outward,
    logger,
    metrics,
  });
  const connections = new Map<string, ConnectionState>();
  const connectionState = async (userId: string, { id }: { id: string }) => {
    const state = connections.get(`${userId} ${id}`) ?? "not_needed";
    if (state !== "sign_in_needed") return { state, missingScopes: [] };
    return { state: "unavailable", missingScopes: [], signInNeeded: true } as const;
  };
  const oauth = upstreams
    ? createUpstreamOAuth({ routes, store, keys, logger, metrics, refreshSignIn: signIn.renewTokens })
    : undefined;
  const tokens =
    oauth &&
    createUpstreamTokens({ routes, store, upstreamOAuth: oauth, logger, metrics, refreshAheadEveryMs: 0 });
  const denied = new Set<string>();
  const mayReach = ({ userId }: { readonly userId: string }, { id }: { readonly id: string }) =>
    !denied.has(`${userId} ${id}`);
  const serverOn = (on: Store) =>
    createAuthorizationServer({
      routes,
      store: on,
      signIn,
      keys,
      externalTokens,
      upstreamTokens: tokens ?? { connectionState },
      upstreamNotice: oauth?.notice,
      mayReach,
      fetch: outward,
      logger,
      metrics,
    });
  const authorizationServer = serverOn(store);

  const app = behindEnvoy();
  app.use(signIn.router.routes());
  if (oauth && tokens) {
    const portal = createPortal({
      ...{ routes, store, signIn, externalTokens, people, mayReach, logger },
      upstreamOAuth: oauth,
      upstreamTokens: tokens,
      endpointPath: oauth.endpointPath,
      describeClient: authorizationServer.describeClient,
    });
    app.use(portal.routes());
  }
  app.use(async (ctx, next) => {
    if (ctx.path === "/whoami") {
      const person = await signIn.person(ctx);
      ctx.body = person ?? {};
      return;
    }
    if (ctx.path !== "/.pomerium/mcp/connect") return next();
    const person = await signIn.person(ctx);
    if (person?.parentSessionName === undefined || person.parentSessionName !== ctx.query.session) {
      return ctx.redirect(await signIn.begin(ctx, ctx.path + ctx.search));
    }
    const back = new URL(String(ctx.query.redirect_url));
    const outcome = house.connectOutcome;
    if (outcome === "connects") connections.set(`${person.userId} ${ctx.query.route}`, "connected");
    else if (outcome !== "nothing")
      for (const [name, value] of Object.entries({ connect_error: outcome.error, ...outcome.beside }))
        back.searchParams.set(name, value);
    ctx.redirect(back.href);
  });
  app.use(authorizationServer.middleware);
  const handler = app.callback();
  const listener = await listen(handler);

  const fetch = everyHostAt(listener.port);
  const house: House = {
    async otherServer() {
      const itsStore = await open();
      const server = serverOn(itsStore);
      const itsListener = await listen(behindEnvoy().use(server.middleware).callback());
      const itsFetch = everyHostAt(itsListener.port);
      return {
        fetch: itsFetch.fetch,
        async close() {
          server.close();
          await itsFetch.close();
          await itsListener.close();
          await itsStore.close();
        },
      };
    },
    denied,
    company,
    routes,
    store,
    signIn,
    replica,
    keys,
    externalTokens,
    fetch: fetch.fetch,
    connections,
    connectOutcome: "connects",
    documents,
    log,
    metrics,
    upstreams: oauth && tokens && { oauth, tokens },
    gone,
    handler,
    wire,
    browser: () =>
      httpBrowser({
        fetch: house.fetch,
        stopAt: (url) => url.pathname === "/client-callback" || !/^https?:$/.test(url.protocol),
      }),
    async ageSignIn(userId, seconds) {
      const session = await store.signInSessions.find(userId);
      if (!session) throw new Error(`${userId} has not signed in`);
      const heard = new Promise<void>((resolve) => {
        const stop = store.notifications.subscribe((change) => {
          if (change.table !== "browser_session" || change.userId !== userId) return;
          stop();
          resolve();
        });
      });
      await store.signInSessions.put({ ...session, checkedAt: new Date(Date.now() - seconds * 1000) });
      await heard;
    },
    async reconfigure(change) {
      yaml = change(yaml);
      table = await load(file, yaml);
    },
    async close() {
      authorizationServer.close();
      await tokens?.close();
      await oauth?.close();
      externalTokens.close();
      people.close();
      signIn.close();
      keys.close();
      await fetch.close();
      await listener.close();
      await company.close();
      await store.close();
      await wire.close();
      await database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return house;
}

/** An app to which requests come as Envoy and the door hand them over. */
function behindEnvoy(): Koa {
  const app = new Koa();
  app.proxy = true;
  app.silent = true;
  app.use(async (ctx, next) => {
    delete ctx.req.headers["x-forwarded-host"];
    ctx.req.headers["x-forwarded-proto"] = "https";
    await next();
  });
  return app;
}

/** A fetch that reaches every https host as plain http on one loopback port; plain http goes where its URL says. */
export function everyHostAt(port: number): { fetch: typeof globalThis.fetch; close(): Promise<void> } {
  const connect = buildConnector({});
  const agent = new Agent({
    connect: (options, callback) =>
      connect({ ...options, hostname: "127.0.0.1", host: "127.0.0.1", port: String(port) }, callback),
  });
  const reach = (input: string | URL, init?: UndiciInit) => {
    const url = new URL(input);
    if (url.protocol === "http:") return undiciFetch(url, init);
    return undiciFetch(`http://${url.host}${url.pathname}${url.search}`, { ...init, dispatcher: agent });
  };
  // The library's own types of the fetch standard and TypeScript's differ in name only.
  const fetch: unknown = reach;
  return { fetch: fetch as typeof globalThis.fetch, close: () => agent.destroy() };
}

async function load(file: string, yaml: string): Promise<RouteTable> {
  await writeFile(file, yaml, { mode: 0o600 });
  const loaded = loadConfig(file, {});
  if (!loaded.ok) throw new Error(loaded.problems.map((problem) => formatProblem(problem)).join("\n"));
  return createRouteTable(loaded.config);
}

function routesFile(issuer: string, extra: string): string {
  const route = (from: string, name: string) => `
  - from: ${from}
    to: http://upstream.test:8080/mcp
    id: ${name}
    name: ${name}
    description: Does things called ${name}
    mcp: {server: {upstream_oauth2: {scopes: [a, b, c, "a:b", "tools:read", "tools:write", "files:read"]}}}
    policy: [{allow: {and: [{accept: true}]}}]`;
  return `issuer: https://auth.test
sign_in:
  providers:
    - id: company
      name: Company
      issuer: ${issuer}
      client_id: sidecar
      client_secret: ${companySecret}
      scopes: [openid, email, profile, groups, offline_access]
${extra}
routes:${route("https://one.test", "one")}${route("https://many.test/a", "many-a")}${route("https://many.test/b", "many-b")}
`;
}
