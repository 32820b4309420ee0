import { listen } from "../../dev/demo/listen.ts";
import type { AggregateCall, AggregationDeps } from "../../src/aggregation/aggregation.ts";
import { aggregationOnDemand } from "../../src/aggregation/aggregation-on-demand.ts";
import { createApp } from "../../src/server/http/public-endpoint.ts";
import type { AggregateSession, AggregateSessions } from "../../src/store/aggregate-sessions.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import type { Change } from "../../src/store/notifications/notifications.ts";
import type { PersonFacts } from "../../src/store/people.ts";
import type { ReplicaMessages } from "../../src/store/replica-messages.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { load } from "../config/load.ts";

/** A member of the aggregated route: its URL, or the 401 that the check before it would answer with. */
export interface TestMember {
  readonly id: string;
  readonly name?: string;
  readonly url: string;
  connected?: boolean;
  granted?: boolean;
}

export interface TestReplicas {
  /** The endpoint of the aggregated route on a replica. */
  readonly url: (replica?: number) => string;
  /** Sends each request to another replica, in turn. */
  readonly roundRobin: typeof globalThis.fetch;
  /** As in production: the bearer token is the grant's id, `USER/GRANT`. */
  readonly token: string;
  readonly routes: AggregationDeps["routes"];
  readonly links: string[];
  /** What is known about people now, and their policy. */
  readonly access: {
    person: (userId: string) => PersonFacts | undefined;
    mayReach: AggregationDeps["mayReach"];
    /** Called before a session is read. */
    reading: () => Promise<void> | void;
  };
  readonly metrics: Metrics;
  /** How many responses have been sent, or abandoned by their clients. */
  readonly closed: () => number;
  /** How often versions of sessions were compared. */
  readonly compared: () => number;
  /** Notifies the replicas of a change in the database. */
  change(change: Change): void;
  readonly rows: Map<string, AggregateSession<unknown>>;
  readonly lines: string[];
  /** What replicas have sent to each other; `*`: to all. */
  readonly sent: { readonly to: string; readonly payload: unknown }[];
  /** Loads other members. */
  reload(members: readonly TestMember[], aggregate?: object): Promise<void>;
  stop(replica: number): Promise<void>;
  close(): Promise<void>;
}

/** Aggregations on HTTP ports, without Envoy: members are called directly, and the caller is what the token says. */
export async function startReplicas(
  members: readonly TestMember[],
  options: { readonly count?: number; readonly aggregate?: object } = {},
): Promise<TestReplicas> {
  const { count = 1 } = options;
  let current = members;
  let routes = tableOf(members, options.aggregate);
  const rows = new Map<string, AggregateSession<unknown>>();
  let compared = 0;
  const changes = new Set<(change: Change) => void>();
  const notify = (change: Change) => {
    for (const listener of changes) listener(change);
  };
  const sessions = memorySessions(rows, {
    reading: () => access.reading(),
    comparing: () => {
      compared += 1;
    },
    changed: (handle) =>
      queueMicrotask(() => notify({ table: "aggregate_session", name: hashedHandle(handle) })),
  });
  const sent: TestReplicas["sent"] = [];
  const messages = memoryMessages(sent);
  const links: string[] = [];
  const lines: string[] = [];
  const logger = createLogger({
    level: "info",
    destination: { write: (line: string) => void lines.push(line) },
  });
  const reloads = new Set<() => void>();
  const access: TestReplicas["access"] = {
    person: (userId) => ({ userId, groups: [], claims: {} }),
    mayReach: () => true,
    reading: () => {},
  };
  const metrics = createMetrics();
  let closed = 0;
  const deps: AggregationDeps = {
    routes: () => routes,
    onRoutesChanged(listener) {
      reloads.add(listener);
      return () => void reloads.delete(listener);
    },
    logger,
    metrics,
    sessions,
    messages,
    callOf: async ({ req }) => {
      const [, userId, grantId] = /^Bearer ([^/]+)\/(.+)$/.exec(req.headers.authorization ?? "") ?? [];
      const route = routes.byId("all");
      return userId && grantId && route ? callBy(userId, grantId, route) : undefined;
    },
    memberFetch: (_call, member) => (input, init) => {
      const found = current.find(({ id }) => id === member.id);
      if (found === undefined) throw new Error(`${member.id} is no member`);
      if (found.connected === false)
        return Promise.resolve(
          new Response(null, { status: 401, headers: { "www-authenticate": "Bearer" } }),
        );
      const headers = new Headers(init?.headers);
      headers.delete("authorization");
      const to = new URL(found.url);
      const asked = new URL(String(input));
      if (asked.pathname !== "/") to.pathname = asked.pathname;
      to.search = asked.search;
      return fetch(to, { ...init, headers });
    },
    grantedMembers: () => new Set(current.filter(({ granted }) => granted !== false).map(({ id }) => id)),
    people: { find: (userId) => access.person(userId) },
    notifications: {
      subscribe(listener) {
        changes.add(listener);
        return () => void changes.delete(listener);
      },
    },
    mayReach: (person, route) => access.mayReach(person, route),
    createConsentLink: async ({ route, aggregate }) => {
      links.push(route.id);
      return `https://auth.test/consent/${aggregate?.id}-${route.id}-${links.length}`;
    },
  };
  const replicas = await Promise.all(
    Array.from({ length: count }, async () => {
      const aggregation = await aggregationOnDemand(deps);
      const app = createApp(logger);
      app.use(async (ctx, next) => {
        ctx.res.once("close", () => {
          closed += 1;
        });
        ctx.req.headers.host = "all.test";
        await next();
      });
      app.use(aggregation.middleware);
      const listener = await listen(app.callback());
      return { aggregation, listener };
    }),
  );
  let turn = 0;
  return {
    url: (replica = 0) => `${replicas[replica]?.listener.url}/`,
    roundRobin: (input, init) => {
      turn += 1;
      const url = new URL(String(input));
      url.port = String(replicas[turn % replicas.length]?.listener.port);
      return fetch(url, init);
    },
    token: "alice/g1",
    routes: () => routes,
    links,
    access,
    metrics,
    closed: () => closed,
    compared: () => compared,
    change: notify,
    rows,
    lines,
    sent,
    async reload(changed, aggregate) {
      current = changed;
      routes = tableOf(changed, aggregate);
      for (const listener of reloads) listener();
    },
    async stop(replica) {
      await replicas[replica]?.listener.close();
      await replicas[replica]?.aggregation.close();
    },
    async close() {
      for (const { aggregation, listener } of replicas) {
        await aggregation.close();
        await listener.close();
      }
    },
  };
}

function tableOf(members: readonly TestMember[], aggregate: object = {}) {
  const all = {
    id: "all",
    from: "https://all.test",
    mcp: { aggregate: { routes: members.map(({ id }) => id), ...aggregate } },
  };
  const other = { id: "other", from: "https://other.test", to: "https://upstream.test", mcp: { server: {} } };
  const routes = [
    members.length > 0 ? all : other,
    ...members.map(({ id, name = id }) => ({
      id,
      name,
      from: `https://${id}.test`,
      to: "https://upstream.test",
      mcp: { server: { upstream_auth: "none" } },
    })),
  ];
  return load(routes.map((route) => `  - ${JSON.stringify(route)}`).join("\n")).table;
}

function callBy(userId: string, grantId: string, route: AggregateCall["route"]): AggregateCall {
  return {
    route,
    caller: {
      userId,
      grantId,
      groups: [],
      claims: {},
      clientId: "https://client.test/",
      scopes: [],
      expiresAt: Date.now() / 1000 + 300,
      kind: "person",
      refreshable: true,
    },
    requestId: "r1",
  };
}

function memorySessions(
  rows: Map<string, AggregateSession<unknown>>,
  hooks: {
    readonly reading: () => Promise<void> | void;
    readonly comparing: () => void;
    readonly changed: (handle: string) => void;
  },
): AggregateSessions {
  const { reading, comparing, changed } = hooks;
  const copy = (value: unknown) => JSON.parse(JSON.stringify(value));
  return {
    async create<State>(session: Omit<AggregateSession<State>, "version">, keepPerGrant: number) {
      if (rows.has(session.handle)) throw new Error("duplicate key");
      const older = [...rows.values()].filter(({ grantId }) => grantId === session.grantId);
      rows.set(session.handle, { ...session, state: copy(session.state), version: 1 });
      const dropped = older
        .sort((one, other) => one.expiresAt.getTime() - other.expiresAt.getTime())
        .slice(0, Math.max(0, older.length - keepPerGrant + 1));
      for (const { handle } of dropped) {
        rows.delete(handle);
        changed(handle);
      }
      return dropped.map(({ state }) => copy(state));
    },
    async find(handle) {
      await reading();
      const found = rows.get(handle);
      return found && { ...found, state: copy(found.state) };
    },
    async versions(handles) {
      comparing();
      return new Map(
        handles.flatMap((handle) => {
          const found = rows.get(handle);
          return found ? [[handle, { version: found.version, expiresAt: found.expiresAt }] as const] : [];
        }),
      );
    },
    async update(handle, version, state, expiresAt) {
      const found = rows.get(handle);
      if (found?.version !== version) return false;
      rows.set(handle, { ...found, state: copy(state), version: version + 1, expiresAt });
      changed(handle);
      return true;
    },
    async remove(handle) {
      const removed = rows.delete(handle);
      if (removed) changed(handle);
      return removed;
    },
  };
}

function memoryMessages(sent: TestReplicas["sent"]): ReplicaMessages {
  const listeners = new Map<string, (payload: unknown) => void>();
  const deliver = (listener: ((payload: unknown) => void) | undefined, payload: unknown) => {
    const text = JSON.stringify(payload);
    queueMicrotask(() => listener?.(JSON.parse(text)));
  };
  return {
    async send(to, payload) {
      sent.push({ to, payload });
      deliver(listeners.get(to), payload);
      return "sent";
    },
    async broadcast(payload) {
      sent.push({ to: "*", payload });
      for (const listener of listeners.values()) deliver(listener, payload);
      return "sent";
    },
    receive(id, listener) {
      listeners.set(id, listener);
      return () => void listeners.delete(id);
    },
  };
}
