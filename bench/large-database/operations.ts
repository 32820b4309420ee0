import type { Store } from "../../src/store/store.ts";
import type { Connection } from "../world/world.ts";

/** What the measured operations are called with. */
export interface Sample {
  readonly store: Store;
  /** A valid connection, and the upstream of all routes. */
  readonly connection: Connection;
  readonly upstream: string;
  readonly clientId: string;
  /** All routes of the routes file. */
  readonly routes: readonly { readonly routeId: string; readonly upstream: string }[];
}

export interface Operation {
  readonly name: string;
  /** Returns how many rows its caller got, if that says something. */
  readonly run: (sample: Sample) => Promise<number | undefined>;
}

const counted = async (list: Promise<readonly unknown[]>) => (await list).length;
const allPages = async (pages: AsyncIterable<readonly unknown[]>) => {
  let count = 0;
  for await (const rows of pages) count += rows.length;
  return count;
};
const firstPage = async (pages: AsyncIterable<readonly unknown[]>) => {
  for await (const rows of pages) return rows.length;
  return 0;
};
const done = (work: Promise<unknown>) => work.then(() => undefined);
const key = ({ connection: { userId, route }, upstream }: Sample) => ({
  userId,
  routeId: `route-${route}`,
  upstream,
});

/** What every replica does by itself, as the parts of it that ask the database. */
export const background: readonly Operation[] = [
  {
    name: "tokens due",
    run: ({ store }) =>
      allPages(
        store.upstreamTokens.dueForRefresh({ aheadMs: 120_000, lastPart: 0.2, usedWithin: 7 * 86_400 }),
      ),
  },
  {
    name: "upstreams with connections, a page",
    run: ({ store }) => counted(store.orphanedUpstreams.connected(undefined, 500)),
  },
  {
    name: "orphaned connections",
    run: async ({ store, routes }) => {
      await store.orphanedUpstreams.add(routes.slice(0, 1));
      const found = await store.orphanedUpstreams.connections(0, 200);
      await store.orphanedUpstreams.remove(routes.slice(0, 1));
      return found.length;
    },
  },
  {
    name: "expired rows",
    run: async ({ store }) =>
      Object.values(await store.removeExpired(new Date())).reduce((sum, count) => sum + count, 0),
  },
  {
    name: "owners to recheck",
    run: async ({ store }) => (await store.delegations.ownersToCheck(new Date(), "", 500)).owners.length,
  },
];

/** What a check asks when no cache has the answer. */
export const coldCheck: readonly Operation[] = [
  {
    name: "grant of a token",
    run: ({ store, connection }) => done(store.authorizationServerRecords.grantIsLive(connection.grantId)),
  },
  {
    name: "person",
    run: ({ store, connection }) => done(store.signInSessions.find(connection.userId)),
  },
  { name: "upstream token", run: (sample) => done(sample.store.upstreamTokens.find(key(sample))) },
  {
    name: "required scopes",
    run: (sample) => done(sample.store.upstreamTokens.findRequiredScopes(key(sample))),
  },
  {
    name: "members of a grant",
    run: ({ store, connection }) => done(store.grantedMembers.of(connection.grantId)),
  },
  {
    name: "delegations of a grant",
    run: ({ store, connection }) => counted(store.delegations.ofGrant(connection.grantId)),
  },
  { name: "time of last use", run: (sample) => done(sample.store.upstreamTokens.recordUses([key(sample)])) },
];

/** Pages of one person, in the portal and in the admin API. */
export const pages: readonly Operation[] = [
  {
    name: "a person's connections",
    run: ({ store, connection }) => counted(store.upstreamTokens.listForUser(connection.userId)),
  },
  {
    name: "a person's grants",
    run: ({ store, connection }) =>
      counted(store.authorizationServerRecords.grants({ userId: connection.userId })),
  },
  {
    name: "a person's delegations",
    run: ({ store, connection }) => counted(store.delegations.ofOwner(connection.userId)),
  },
];

/** What the commands list, by the store's calls. */
export const lists: readonly Operation[] = [
  {
    name: "connections list --user",
    run: ({ store, connection }) => counted(store.upstreamTokens.list({ userId: connection.userId })),
  },
  {
    name: "connections list --route",
    run: ({ store }) => firstPage(store.upstreamTokens.pages({ routeId: "route-9999" })),
  },
  { name: "connections list, a page", run: ({ store }) => firstPage(store.upstreamTokens.pages({})) },
  {
    name: "grants list, a page",
    run: ({ store }) => firstPage(store.authorizationServerRecords.grantPages({})),
  },
  {
    name: "grants list --client, a page",
    run: ({ store, clientId }) => firstPage(store.authorizationServerRecords.grantPages({ clientId })),
  },
  {
    name: "audit export, a page",
    run: ({ store }) => counted(store.auditEvents({ limit: 1_000, settled: true })),
  },
  {
    name: "audit export --user, a page",
    run: ({ store, connection }) =>
      counted(store.auditEvents({ limit: 1_000, userId: connection.userId, settled: true })),
  },
];
