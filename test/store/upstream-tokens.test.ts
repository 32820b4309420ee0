import { expect, it } from "vitest";
import { connectionKeyName } from "../../src/model/connection.ts";
import type { Change } from "../../src/store/notifications/notifications.ts";
import type { RouteUpstream } from "../../src/store/orphaned-upstreams.ts";
import type { StoredUpstreamTokens } from "../../src/store/upstream-tokens.ts";
import { changes } from "./changes.ts";
import { describeStore } from "./describe-store.ts";
import { audit, connection, inSeconds, upstreamToken } from "./samples.ts";

describeStore("upstream tokens", (store) => {
  const key = { ...connection, routeId: "tokens" };
  const token = (over = {}) => upstreamToken({ ...key, ...over });
  const put = () => store().upstreamTokens.put(token(), audit("upstream_token.obtained"));
  /** Pages of routes of this user's connections that are due. */
  async function due(user: string, search: Partial<Parameters<StoredUpstreamTokens["dueForRefresh"]>[0]>) {
    const pages: string[][] = [];
    const found = store().upstreamTokens.dueForRefresh({ aheadMs: 50_000, usedWithin: 86_400, ...search });
    for await (const page of found)
      pages.push(page.filter(({ userId }) => userId === user).map(({ routeId }) => routeId));
    return pages.filter((page) => page.length > 0);
  }

  it("returns a stored token by user, route and upstream", async () => {
    const written = token({ dpopKey: { kty: "EC" }, refreshExpiresAt: inSeconds(3_600) });
    const version = await store().upstreamTokens.put(written, audit("upstream_token.obtained"));
    const found = await store().upstreamTokens.find(key);
    expect(found).toMatchObject({ ...written, version });
    expect(found?.connectedAt).toBeInstanceOf(Date);
    for (const other of [{ userId: "company/bob" }, { routeId: "x" }, { upstream: "https://x.example/" }])
      expect(await store().upstreamTokens.find({ ...key, ...other })).toBeUndefined();
  });

  it("stores a token without expiry and refresh token", async () => {
    const bare = token({ routeId: "bare", expiresAt: undefined, refreshToken: undefined });
    await store().upstreamTokens.put(bare, audit("upstream_token.obtained"));
    const found = await store().upstreamTokens.find(bare);
    expect(found).not.toHaveProperty("expiresAt");
    expect(found).not.toHaveProperty("refreshToken");
  });

  it("leases the refresh of one version to one of many callers", async () => {
    const version = await put();
    const taken = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        store().upstreamTokens.takeLease(key, version, `owner-${i}`, inSeconds(30)),
      ),
    );
    expect(taken.filter(Boolean)).toHaveLength(1);
  });

  it("leases a version again after the lease was released or has expired, but no other version", async () => {
    const version = await put();
    expect(await store().upstreamTokens.takeLease(key, version - 1, "a", inSeconds(30))).toBeUndefined();
    expect(await store().upstreamTokens.takeLease(key, version, "a", inSeconds(30))).toBeDefined();
    await store().upstreamTokens.releaseLease(key, version, "b");
    expect(await store().upstreamTokens.takeLease(key, version, "b", inSeconds(30))).toBeUndefined();
    await store().upstreamTokens.releaseLease(key, version, "a");
    expect(await store().upstreamTokens.takeLease(key, version, "b", inSeconds(-1))).toBeDefined();
    expect(await store().upstreamTokens.takeLease(key, version, "c", inSeconds(30))).toBeDefined();
  });

  it("leases a version again to its owner, who may not know that it holds the lease, but not to others", async () => {
    const version = await put();
    const owners = store().upstreamTokens;
    expect(await owners.takeLease(key, version, "a", inSeconds(-1))).toBeDefined();
    expect(await owners.takeLease(key, version, "b", inSeconds(30), false)).toBeUndefined();
    expect(await owners.takeLease(key, version, "a", inSeconds(30), false)).toBeDefined();
    expect(await owners.takeLease(key, version, "b", inSeconds(30))).toBeUndefined();
  });

  it("stores a refreshed token only for the lease's owner", async () => {
    const version = await put();
    const before = await store().upstreamTokens.find(key);
    await store().upstreamTokens.takeLease(key, version, "a", inSeconds(30));
    const replace = (owner: string) =>
      store().upstreamTokens.replace(
        token({ accessToken: "refreshed" }),
        version,
        owner,
        audit("upstream_token.refreshed"),
      );
    expect(await replace("b")).toBeUndefined();
    expect((await store().upstreamTokens.find(key))?.version).toBe(version);
    const refreshed = await replace("a");
    expect(refreshed?.version).toBeGreaterThan(version);
    expect(await store().upstreamTokens.find(key)).toMatchObject({
      accessToken: "refreshed",
      ...refreshed,
      connectedAt: before?.connectedAt,
    });
    expect(await replace("a")).toBeUndefined();
  });

  it("discards a refresh if a consent was stored in the meantime", async () => {
    const version = await put();
    await store().upstreamTokens.takeLease(key, version, "a", inSeconds(30));
    const consented = await put();
    expect(
      await store().upstreamTokens.replace(token(), version, "a", audit("upstream_token.refreshed")),
    ).toBeUndefined();
    expect((await store().upstreamTokens.find(key))?.version).toBe(consented);
  });

  it("deletes exactly the rejected version, never a newer one", async () => {
    const refused = await put();
    const newer = await put();
    expect(await store().upstreamTokens.deleteVersion(key, refused, audit("upstream_token.rejected"))).toBe(
      false,
    );
    expect((await store().upstreamTokens.find(key))?.version).toBe(newer);
    expect(await store().upstreamTokens.deleteVersion(key, newer, audit("upstream_token.rejected"))).toBe(
      true,
    );
    expect(await store().upstreamTokens.find(key)).toBeUndefined();
  });

  it("never reuses a version, not even after a disconnect", async () => {
    const first = await put();
    expect(await store().upstreamTokens.delete(key, audit("upstream_token.disconnected"))).toMatchObject({
      version: first,
      refreshToken: "secret-refresh-token",
    });
    expect(await store().upstreamTokens.delete(key, audit("upstream_token.disconnected"))).toBeUndefined();
    expect(await put()).toBeGreaterThan(first);
  });

  it("lists only the user's connections", async () => {
    await put();
    await store().upstreamTokens.put(token({ userId: "company/bob" }), audit("upstream_token.obtained"));
    const mine = await store().upstreamTokens.listForUser(key.userId);
    expect(mine.map(({ routeId }) => routeId)).toContain("tokens");
    expect(new Set(mine.map(({ userId }) => userId))).toEqual(new Set([key.userId]));
    await store().upstreamTokens.delete({ ...key, userId: "company/bob" }, audit("upstream_token.revoked"));
  });

  it("lists the connections due for refresh: soonest first, expired ones last, without leased and non-refreshable ones", async () => {
    const putDue = (routeId: string, seconds: number, over = {}) =>
      store().upstreamTokens.put(
        token({ userId: "due", routeId, expiresAt: inSeconds(seconds), ...over }),
        audit("upstream_token.obtained"),
      );
    await putDue("long dead", -9_000);
    await putDue("dead", -60);
    await putDue("second", 40);
    await putDue("first", 20);
    await putDue("later", 9_000);
    await putDue("no refresh token", 20, { refreshToken: undefined });
    await putDue("refresh token expired", 20, { refreshExpiresAt: inSeconds(-5) });
    const leased = await putDue("leased", 20);
    await store().upstreamTokens.takeLease(
      { ...key, userId: "due", routeId: "leased" },
      leased,
      "a",
      inSeconds(30),
    );
    const names = async (pageSize: number, lastPart?: number) =>
      (await due("due", { pageSize, lastPart })).flat();
    expect(await names(100)).toEqual(["first", "second", "dead", "long dead"]);
    expect(await names(1)).toEqual(["first", "second", "dead", "long dead"]);
    // The valid ones have just been created.
    expect(await names(100, 0.2)).toEqual(["dead", "long dead"]);
  });

  it("a connection that has not been used lately is not due, until it is used or there is a new token", async () => {
    const dormant = { ...key, userId: "dormant" };
    const connect = () =>
      store().upstreamTokens.put(
        token({ ...dormant, expiresAt: inSeconds(30) }),
        audit("upstream_token.obtained"),
      );
    const isDue = async (usedWithin?: number) => (await due("dormant", { usedWithin })).length > 0;
    await connect();
    expect(await isDue()).toBe(true);
    expect(await isDue(0)).toBe(false);
    // Found once, and not again.
    expect(await isDue()).toBe(false);
    await store().upstreamTokens.recordUses([dormant]);
    expect(await isDue()).toBe(true);
    expect(await isDue(0)).toBe(false);
    const version = await connect();
    expect(await isDue()).toBe(true);
    expect(await isDue(0)).toBe(false);
    await store().upstreamTokens.takeLease(dormant, version, "a", inSeconds(30));
    await store().upstreamTokens.replace(
      token({ ...dormant, expiresAt: inSeconds(40) }),
      version,
      "a",
      audit("upstream_token.refreshed"),
    );
    expect(await isDue()).toBe(true);
  });

  it("notifies of every change, and of a failed refresh", async () => {
    const fresh = { ...key, routeId: "notified" };
    const name = connectionKeyName(fresh);
    const mine = (change: Change) => "key" in change && change.key === name;
    const obtained = changes(store(), mine);
    const version = await store().upstreamTokens.put(
      token({ routeId: "notified" }),
      audit("upstream_token.obtained"),
    );
    expect(await obtained.next).toEqual({ table: "upstream_token", key: name, version });
    await store().upstreamTokens.takeLease(fresh, version, "a", inSeconds(30));
    const givenUp = changes(store(), mine);
    await store().upstreamTokens.releaseLease(fresh, version, "a");
    expect(await givenUp.next).toEqual({ table: "upstream_token", key: name, version });
    obtained.stop();
    givenUp.stop();
  });

  it("merges required scopes until a consent satisfies them", async () => {
    const requiredAt = new Date();
    await store().upstreamTokens.requireScopes(key, { scopes: ["a", "b"], requiredAt: requiredAt });
    await store().upstreamTokens.requireScopes(key, {
      scopes: ["b", "c"],
      resourceMetadata: "https://files.example.com/prm",
      requiredAt: requiredAt,
    });
    await store().upstreamTokens.requireScopes(key, { scopes: [], requiredAt: requiredAt });
    const demand = await store().upstreamTokens.findRequiredScopes(key);
    expect({ ...demand, scopes: [...(demand?.scopes ?? [])].sort() }).toEqual({
      scopes: ["a", "b", "c"],
      resourceMetadata: "https://files.example.com/prm",
      requiredAt,
    });
    await put();
    expect(await store().upstreamTokens.findRequiredScopes(key)).toBeUndefined();
  });

  it("stores a required consent without specific scopes", async () => {
    const other = { ...key, routeId: "no-scope" };
    await store().upstreamTokens.requireScopes(other, { scopes: [], requiredAt: new Date() });
    await store().upstreamTokens.requireScopes(other, { scopes: [], requiredAt: new Date() });
    expect((await store().upstreamTokens.findRequiredScopes(other))?.scopes).toEqual([]);
    await store().upstreamTokens.clearRequiredScopes(other);
    expect(await store().upstreamTokens.findRequiredScopes(other)).toBeUndefined();
  });

  it("records when a connection was last used, until there is a new one, without changing its version", async () => {
    const version = await put();
    expect((await store().upstreamTokens.find(key))?.lastUsedAt).toBeUndefined();
    await store().upstreamTokens.recordUses([key]);
    const used = await store().upstreamTokens.find(key);
    expect(used?.lastUsedAt).toBeInstanceOf(Date);
    expect(used?.version).toBe(version);
    await put();
    expect((await store().upstreamTokens.find(key))?.lastUsedAt).toBeUndefined();
  });

  it("records the uses of a batch whatever one of them contains", async () => {
    await put();
    const other = { ...key, routeId: "odd" };
    const first = {
      action: "upstream_token.first_used",
      ...other,
      issuer: "https://as.example/\ud800",
    } as const;
    await store().upstreamTokens.recordUses([{ ...other, audit: first }, key]);
    expect((await store().upstreamTokens.find(key))?.lastUsedAt).toBeInstanceOf(Date);
    await store().audit({ action: "grant.created", detail: { client_name: "a\0b\ud800" } });
    const events = await store().auditEvents({ limit: 1_000 });
    expect(
      events.filter(({ action, detail }) => action === first.action || detail !== undefined),
    ).toMatchObject([
      { routeId: "odd", issuer: "https://as.example/\ufffd" },
      { detail: { client_name: "a\ufffdb\ufffd" } },
    ]);
  });

  it("lists upstreams that have connections, each once, in byte order and in pages", async () => {
    // Database collations usually sort these the other way.
    for (const routeId of ["a-z", "aB", "ab"])
      for (const userId of ["company/alice", "company/bob"])
        await store().upstreamTokens.put(token({ userId, routeId }), audit("upstream_token.obtained"));
    const found: string[] = [];
    for (let after: RouteUpstream | undefined, more = true; more; ) {
      const page = await store().orphanedUpstreams.connected(after, 2);
      found.push(...page.map(({ routeId }) => routeId));
      after = page.at(-1);
      more = page.length === 2;
    }
    expect(found.filter((routeId) => routeId.startsWith("a"))).toEqual(["a-z", "aB", "ab"]);
    expect(found).toEqual([...new Set(found)].sort());
  });

  it("lists connections of orphaned upstreams after the grace period, some of each", async () => {
    const { orphanedUpstreams } = store();
    const all = await orphanedUpstreams.connected(undefined, 100);
    const users = (routeId: string, found: readonly { routeId: string; userId: string }[]) =>
      found.filter((one) => one.routeId === routeId).map(({ userId }) => userId);
    await orphanedUpstreams.add(all);
    expect(await orphanedUpstreams.connections(3_600, 100)).toEqual([]);
    const found = await orphanedUpstreams.connections(0, 1_000);
    expect(users("aB", found).sort()).toEqual(["company/alice", "company/bob"]);
    const some = await orphanedUpstreams.connections(0, all.length);
    expect(new Set(some.map(({ routeId }) => routeId))).toEqual(new Set(all.map(({ routeId }) => routeId)));
    expect(users("aB", some)).toHaveLength(1);
    // A replica has its route.
    await orphanedUpstreams.remove(all.filter(({ routeId }) => routeId === "aB"));
    expect(users("aB", await orphanedUpstreams.connections(0, 1_000))).toEqual([]);
    expect((await orphanedUpstreams.list(undefined, 100)).length).toBe(all.length - 1);
    await orphanedUpstreams.remove(all);
  });

  it("an orphaned upstream without connections is forgotten", async () => {
    const gone = { routeId: "gone", upstream: "https://gone.example/mcp" };
    await store().orphanedUpstreams.add([gone]);
    expect(await store().orphanedUpstreams.list(undefined, 100)).toEqual([gone]);
    expect(await store().orphanedUpstreams.connections(0, 100)).toEqual([]);
    expect(await store().orphanedUpstreams.list(undefined, 100)).toEqual([]);
  });
});
