import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { backends, makeKeys } from "../../store/backends.ts";
import { audit, connection, upstreamToken } from "../../store/samples.ts";
import { type Call, observe } from "./load.ts";
import { startWorld, type World } from "./world.ts";

/** Problems reported for comparable systems: two replicas behind Envoy, single-use refresh tokens. */
describe("problems reported for comparable systems", () => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld({ replicas: 2, users: 3, routes: 2, lifeSeconds: 3_600 });
  });
  afterAll(() => world?.close());

  const callOf = (owner: string) => {
    const call = world.calls.find((one) => one.owner === owner);
    if (!call) throw new Error(`no call of ${owner}`);
    return call;
  };
  const make = async (call: Call) => (await observe(world.fetch, call)).what;
  const many = (call: Call, times = 20) => Promise.all(Array.from({ length: times }, () => make(call)));
  /** A consent of yesterday: the access token has expired, the refresh token has not. */
  const stale = async (owner: string) => {
    const [userId = "", routeId = ""] = owner.split(" ");
    await world.seed.connect(userId, routeId, -86_400);
    return callOf(owner);
  };
  /** Expires the stored access token, as if a day had passed, and notifies every replica. */
  const expire = (userId: string, routeId: string) =>
    expect
      .poll(async () => {
        const { upstreamTokens } = world.store;
        const token = (await upstreamTokens.listForUser(userId)).find((one) => one.routeId === routeId);
        if (!token) return true;
        // Not during a refresh, whose result would be lost.
        const until = new Date(Date.now() + 60_000);
        if (!(await upstreamTokens.takeLease(token, token.version, "test", until, false))) return false;
        const { version, connectedAt: _c, updatedAt: _u, lastUsedAt: _l, ...rest } = token;
        const expired = { ...rest, expiresAt: new Date(Date.now() - 60_000) };
        await upstreamTokens.replace(expired, version, "test", {
          action: "upstream_token.refreshed",
          userId,
          routeId,
        });
        return true;
      })
      .toBe(true);
  const storedTokens = async () => {
    const stored = new Map<string, string | undefined>();
    for (const userId of world.users)
      for (const token of await world.store.upstreamTokens.listForUser(userId))
        stored.set(`${userId} ${token.routeId}`, token.refreshToken);
    return stored;
  };

  it("two replicas refresh at once and one stores a dead token: only one refreshes, and the newest token is stored", async () => {
    const { refreshes } = world.server.counts();
    const call = await stale("company/user0 r0");
    expect(new Set(await many(call))).toEqual(new Set(["200"]));
    expect(world.server.counts().refreshes - refreshes).toBe(1);
    expect(world.server.unstored(await storedTokens())).toEqual([]);
  });

  it("a rejection deletes the token that another replica has just stored: exactly the rejected version is deleted", async () => {
    const owner = "company/user0 r1";
    const call = await stale(owner);
    world.server.withdraw(owner);
    const { promise: until, resolve: release } = Promise.withResolvers<void>();
    world.server.behave({ kind: "waits", until });
    const refusedThere = make(call);
    await expect
      .poll(() => world.query("select 1 from upstream_token where lease_owner is not null"), { interval: 20 })
      .toHaveLength(1);
    await world.seed.connect("company/user0", "r1");
    release();
    world.server.behave({ kind: "well" });
    await refusedThere;
    expect(await make(call)).toBe("200");
  });

  it("refresh records pile up until memory runs out: a refresh updates the existing row", async () => {
    const counts = () =>
      world.query(`select (select count(*) from upstream_token) as tokens,
        (select count(*) from upstream_demand) as demands,
        (select count(*) from pending_authorization) as pending,
        (select count(*) from upstream_token where lease_owner is not null) as leases`);
    const before = await counts();
    const { refreshes } = world.server.counts();
    for (let round = 0; round < 10; round++) expect(await make(await stale("company/user1 r0"))).toBe("200");
    // Each was a separate refresh: no result was kept in memory and reused.
    expect(world.server.counts().refreshes - refreshes).toBe(10);
    expect(await counts()).toEqual(before);
  });

  it("people must consent again every day although a refresh token exists: yesterday's connection still works", async () => {
    expect(await make(await stale("company/user1 r1"))).toBe("200");
  });

  it("the gateway's own JWT reaches the upstream instead of the upstream token: it never does", async () => {
    const call = callOf("company/user2 r0");
    expect(await make(call)).toBe("200");
    const headers = world.upstream.newestHeaders().join("\n");
    expect(headers).toMatch(/^authorization\nBearer at_/im);
    expect(headers).not.toContain(call.token);
    expect(headers).not.toContain(call.token.split(".")[1]);
    expect(world.upstream.strangeCredentials()).toBe(0);
  });

  it("the wrong token is sent to the revocation endpoint: only this connection's two tokens are", async () => {
    await world.command("connections", "revoke", "--user", "company/user2", "--route", "r1");
    expect(world.server.revocations).toEqual(["company/user2 r1", "company/user2 r1"]);
    expect(world.server.isRevoked("company/user2 r0")).toBe(false);
  });

  it("one user's token serves another: never, with interleaved concurrent calls", async () => {
    const owners = world.users.map((userId) => `${userId} r0`);
    const calls = await Promise.all(owners.map(stale));
    const interleaved = Array.from({ length: 60 }, (_, index) => calls[index % calls.length]);
    // `observe` compares the owner of the token that the upstream received.
    const seen = await Promise.all(interleaved.flatMap((call) => (call ? [make(call)] : [])));
    expect(new Set(seen)).toEqual(new Set(["200"]));
  });

  it("a used refresh token is sent again: never, over many refreshes on both replicas with failures in between", async () => {
    const { refreshes } = world.server.counts();
    const calls = await Promise.all(world.users.map((userId) => stale(`${userId} r0`)));
    for (let round = 0; round < 6; round++) {
      // From the second round on, each refresh uses the previous one's refresh token.
      if (round > 0) for (const userId of world.users) await expire(userId, "r0");
      if (round % 2) {
        world.server.behave({ kind: "status", status: 500 });
        await Promise.all(calls.map((call) => make(call)));
        world.server.behave({ kind: "well" });
      }
      const refreshed = async () => {
        const answers = await Promise.all(calls.map((call) => many(call, 5)));
        return [world.server.counts().refreshes - refreshes, ...new Set(answers.flat())];
      };
      await expect.poll(refreshed, { timeout: 60_000 }).toEqual([3 * (round + 1), "200"]);
    }
    expect(world.server.counts().revokedByReuse).toBe(0);
    expect(world.server.unstored(await storedTokens())).toEqual([]);
  });

  it("rotating the encryption key invalidates everything stored: rows can be decrypted before and after they are rewritten", async () => {
    const backend = await backends.postgres();
    try {
      const open = async (...kids: string[]) => backend.open({ keys: await makeKeys(...kids) });
      const old = await open("old");
      await old.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
      await old.close();
      const both = await open("new", "old");
      const before = await both.upstreamTokens.find(connection);
      expect(before?.refreshToken).toBe("secret-refresh-token");
      await both.rotateEncryptionKeys();
      await both.close();
      const after = await open("new");
      expect(await after.upstreamTokens.find(connection)).toEqual(before);
      await after.close();
    } finally {
      await backend.close();
    }
  });
});
