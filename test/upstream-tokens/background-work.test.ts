import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StoredUpstreamTokens } from "../../src/store/upstream-tokens.ts";
import { createUpstreamTokens } from "../../src/upstream-tokens/create-upstream-tokens.ts";
import type { Replica } from "../support/stack.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const bob = "company/bob";

describe("in the background", () => {
  let upstream: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startOAuthClient(route());
    await stack.connect(upstream.agree);
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const route = () => `  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}`;
  const other = "  - {id: other, from: https://other.test, to: http://127.0.0.1:1, mcp: {server: {}}}";
  const settings = "upstream_oauth: {allowed_private_hosts: [127.0.0.1], timeout: 3s";
  const key = (userId = alice) => ({ userId, routeId: "files", upstream: upstream.mcp });
  const stored = (userId = alice) => stack.store.upstreamTokens.find(key(userId));
  /** Starts the background refresh, with a round whenever the one before has ended. */
  function refreshAhead(replica: Parameters<typeof createUpstreamTokens>[0] = stack) {
    const tokens = createUpstreamTokens({ ...replica, refreshAheadEveryMs: 20 });
    stack.beforeClose(() => tokens.close());
  }
  /** The replica with another search. */
  function searching(replica: Replica, dueForRefresh: StoredUpstreamTokens["dueForRefresh"]): Replica {
    const { store } = replica;
    return {
      ...replica,
      store: { ...store, upstreamTokens: { ...store.upstreamTokens, dueForRefresh } },
    };
  }
  /** Overwrites the expiry of a stored token, and the time of its last refresh. */
  async function expiring(userId: string, expiry: { expiresAt?: Date; refreshExpiresAt?: Date }) {
    const token = await stored(userId);
    if (!token) throw new Error("nothing stored");
    const { version, connectedAt, updatedAt, lastUsedAt, ...rest } = token;
    const put = await stack.store.upstreamTokens.put(
      { ...rest, ...expiry },
      { action: "upstream_token.obtained" },
    );
    await stack.query(
      `update upstream_token set updated_at = updated_at - interval '10 days' where user_id = '${userId}' and version = ${put}`,
    );
    return put;
  }
  const inMinutes = (minutes: number) => new Date(Date.now() + minutes * 60_000);
  const lastUsed = (userId: string, days: number) =>
    stack.query(
      `update upstream_token set last_used_at = now() - interval '${days} days' where user_id = '${userId}'`,
    );
  /** Resolves after a whole round, in which a token that was due from its beginning has been refreshed. */
  async function nextRound() {
    for (let round = 0; round < 2; round++) {
      const version = await expiring(bob, { expiresAt: inMinutes(-1) });
      await expect.poll(async () => (await stored(bob))?.version).not.toBe(version);
    }
  }

  it("tokens of connections that were used lately are refreshed before they expire; the dormant when they are used again", async () => {
    await stack.connect(upstream.agree, bob);
    const ofAlice = await expiring(alice, { expiresAt: inMinutes(1) });
    const ofBob = await expiring(bob, { expiresAt: inMinutes(1) });
    await lastUsed(alice, 8);
    refreshAhead();
    await expect.poll(async () => (await stored(bob))?.version).not.toBe(ofBob);
    await nextRound();
    expect((await stored())?.version).toBe(ofAlice);
    // A call, whose usage is recorded, while the token is still valid.
    await stack.store.upstreamTokens.recordUses([key()]);
    await expect.poll(async () => (await stored())?.version).not.toBe(ofAlice);
  });

  it("what a replica of an earlier version has refreshed since is not dormant", async () => {
    await stack.connect(upstream.agree, bob);
    const version = await expiring(alice, { expiresAt: inMinutes(-1) });
    await stack.query("update upstream_token set dormant_at = now() where user_id = 'company/alice'");
    refreshAhead();
    await nextRound();
    expect((await stored())?.version).toBe(version);
    await stack.query("update upstream_token set updated_at = now() where user_id = 'company/alice'");
    await expect.poll(async () => (await stored())?.version).not.toBe(version);
  });

  it("upstream_oauth.refresh_ahead.used_within moves the limit, and 0 turns it off", async () => {
    await stack.connect(upstream.agree, bob);
    await expiring(alice, { expiresAt: inMinutes(1) });
    await lastUsed(alice, 8);
    await stack.reconfigure(route(), `${settings}, refresh_ahead: {used_within: 0}}`);
    const version = (await stored())?.version;
    let rounds = 0;
    const routes = () => {
      rounds++;
      return stack.routes();
    };
    refreshAhead({ ...stack, routes });
    await expect.poll(() => rounds).toBeGreaterThan(5);
    expect(await stack.query("select * from background_work")).toEqual([]);
    await stack.reconfigure(route(), `${settings}, refresh_ahead: {used_within: 9d}}`);
    await expect.poll(async () => (await stored())?.version).not.toBe(version);
  });

  it("a refresh token that would expire unused is refreshed, once if the server does not extend it", async () => {
    await stack.connect(upstream.agree, bob);
    await expiring(alice, { expiresAt: inMinutes(-60), refreshExpiresAt: inMinutes(60) });
    await lastUsed(alice, 30);
    const version = (await stored())?.version;
    upstream.tokenFields.refresh_expires_in = 3_601;
    refreshAhead();
    await expect.poll(async () => (await stored())?.version).not.toBe(version);
    await expect
      .poll(() => stack.query("select 1 from upstream_token where refresh_final_at > refresh_expires_at"))
      .toHaveLength(1);
    const once = (await stored())?.version;
    // As if most of the remaining time had passed.
    await stack.query("update upstream_token set updated_at = updated_at - interval '10 days'");
    await nextRound();
    expect((await stored())?.version).toBe(once);
  });

  it("a server that does not answer is asked for some tokens of a round, and does not hold up the others", async () => {
    const broken = await scriptedUpstream();
    stack.beforeClose(broken.close);
    await stack.reconfigure(
      `${route()}\n  - {id: broken, from: https://mcp.test/broken, to: ${broken.mcp}, mcp: {server: {}}}`,
    );
    await stack.connect(broken.agree, bob, "broken");
    const token = await stack.store.upstreamTokens.find({
      ...key(bob),
      routeId: "broken",
      upstream: broken.mcp,
    });
    if (!token) throw new Error("nothing stored");
    const audit = { action: "upstream_token.obtained" } as const;
    for (let user = 0; user < 45; user++)
      await stack.store.upstreamTokens.put(
        { ...token, userId: `company/${user}`, expiresAt: inMinutes(-1) },
        audit,
      );
    const before = broken.tokenRequests.length;
    const released = Promise.withResolvers<void>();
    broken.beforeToken = () => released.promise;
    broken.tokenAnswers.push(...Array.from({ length: 60 }, () => ({ status: 500, body: "no" })));
    const version = await expiring(alice, { expiresAt: inMinutes(-2) });
    let rounds = 0;
    refreshAhead(
      searching(stack, async function* (search) {
        if (++rounds === 1) yield* stack.store.upstreamTokens.dueForRefresh(search);
      }),
    );
    await expect.poll(async () => (await stored())?.version).not.toBe(version);
    released.resolve();
    await expect.poll(() => rounds).toBeGreaterThan(1);
    const asked = broken.tokenRequests.length - before;
    expect(asked).toBeGreaterThanOrEqual(10);
    expect(asked).toBeLessThan(45);
  });

  it("one replica at a time searches, of those with the same routes", async () => {
    const there = await stack.replica();
    const searches = { here: 0, there: 0 };
    let atOnce = 0;
    let most = 0;
    const counted = (replica: Replica, who: keyof typeof searches) =>
      searching(replica, async function* (search) {
        searches[who]++;
        most = Math.max(most, ++atOnce);
        yield* replica.store.upstreamTokens.dueForRefresh(search);
        atOnce--;
      });
    refreshAhead(counted(stack, "here"));
    refreshAhead(counted(there, "there"));
    await expect.poll(() => Math.min(searches.here, searches.there)).toBeGreaterThan(2);
    expect(most).toBe(1);
  });

  describe("connections of removed routes", () => {
    const aDayOn = () =>
      stack.query("update orphaned_upstream set orphaned_at = orphaned_at - interval '25 hours'");
    const end = () => stack.upstreamTokens.disconnectOrphans();

    it("are kept while another replica has the route", async () => {
      const there = await stack.replica();
      const routesThere = stack.routes();
      const elsewhere = createUpstreamTokens({ ...there, routes: () => routesThere, refreshAheadEveryMs: 0 });
      stack.beforeClose(() => elsewhere.close());
      await stack.reconfigure(other);
      expect(await end()).toBe(0);
      await aDayOn();
      // Whoever ends connections at the time.
      await stack.store.backgroundWork.run("orphans", 0, async () => {
        expect(await elsewhere.disconnectOrphans()).toBe(0);
      });
      expect(await stack.query("select * from orphaned_upstream")).toEqual([]);
      expect(await end()).toBe(0);
      expect(await stored()).toBeDefined();
    });

    it("are kept while a replica of an earlier version has the route", async () => {
      await stack.reconfigure(other);
      expect(await end()).toBe(0);
      // It clears what it finds marked.
      const cleared = await stack.query(
        "update upstream_token set orphaned_at = null where orphaned_at is not null returning 1",
      );
      expect(cleared).toHaveLength(1);
      await aDayOn();
      expect(await end()).toBe(0);
      expect(await end()).toBe(0);
      await aDayOn();
      expect(await end()).toBe(1);
    });

    it("are kept while their stored route cannot be used, and end when it is deleted", async () => {
      await stack.reconfigure(other);
      stack.useStored([], { unreadable: [{ id: "files", place: "mcp.test/" }], rejected: [] });
      for (let day = 0; day < 2; day++) {
        expect(await end()).toBe(0);
        await aDayOn();
      }
      expect(await stack.query("select * from orphaned_upstream")).toEqual([]);
      await stack.reconfigure(other);
      expect(await end()).toBe(0);
      await aDayOn();
      expect(await end()).toBe(1);
    });

    it("marks of an earlier version's replica without the route are cleared", async () => {
      await stack.query("update upstream_token set orphaned_at = now()");
      await end();
      expect(await stack.query("select orphaned_at from upstream_token")).toEqual([{ orphaned_at: null }]);
    });

    it("are ended in batches, a part of each upstream's", async () => {
      await stack.query(`
        insert into upstream_token (user_id, route_id, upstream, sealed, key_id, refreshable)
        select 'company/' || i, 'r' || (i / 60), 'https://' || (i / 60) || '.test/', sealed, key_id, false
        from upstream_token, generate_series(0, 62) as i`);
      await stack.reconfigure(other);
      await end();
      await aDayOn();
      await end();
      expect(await stack.query("select user_id from upstream_token")).toEqual([]);
      expect(await stack.query("select * from orphaned_upstream")).toEqual([]);
    });
  });
});
