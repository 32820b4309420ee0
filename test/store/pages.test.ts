import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Store } from "../../src/store/store.ts";
import type { ConnectionSummary } from "../../src/store/upstream-tokens.ts";
import { rowsOf } from "../support/rows-of.ts";
import { backends } from "./backends.ts";
import { inSeconds } from "./samples.ts";

describe("listings in pages", () => {
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  let store: Store;
  beforeAll(async () => {
    backend = await backends.postgres();
    store = await backend.open();
    await backend.query(`
      insert into upstream_token (user_id, route_id, upstream, sealed, key_id, refreshable)
      select 'user' || n / 3, 'r' || n % 3, 'https://up' || n % 7, 's', 'k', false from generate_series(0, 2999) n`);
  });
  afterAll(async () => {
    await store?.close();
    await backend?.close();
  });
  const nameOf = ({ userId, routeId, upstream }: ConnectionSummary) => `${userId} ${routeId} ${upstream}`;
  const namesIn = async (condition: string) =>
    (
      await backend.query(
        `select user_id || ' ' || route_id || ' ' || upstream as name from upstream_token where ${condition}`,
      )
    ).map(({ name }) => name);

  it.each([
    ["all", {}, "true", 6],
    ["of one route", { routeId: "r1" }, "route_id = 'r1'", 2],
    ["of one user", { userId: "user7" }, "user_id = 'user7'", 1],
    ["of one user and route", { userId: "user7", routeId: "r1" }, "user_id = 'user7' and route_id = 'r1'", 1],
    ["of nobody", { userId: "nobody" }, "false", 0],
  ])(
    "connections, %s: each exactly once, at most 500 at a time",
    async (_which, filter, condition, pages) => {
      const sizes: number[] = [];
      const names: string[] = [];
      for await (const page of store.upstreamTokens.pages(filter)) {
        sizes.push(page.length);
        names.push(...page.map(nameOf));
      }
      expect(sizes.length).toBe(pages);
      expect(Math.max(0, ...sizes)).toBeLessThanOrEqual(500);
      expect(names.toSorted()).toEqual((await namesIn(condition)).toSorted());
    },
  );

  it.each([
    ["all", {}, "true"],
    ["of one route", { routeId: "r2" }, "route_id = 'r2'"],
  ])(
    "connections, %s: without gaps or duplicates while rows come, change and go",
    async (_which, filter, condition) => {
      const before = await namesIn(condition);
      const listed: string[] = [];
      for await (const page of store.upstreamTokens.pages(filter)) {
        listed.push(...page.map(nameOf));
        const [first, last] = [page[0], page.at(-1)];
        // What was listed goes, as with `connections revoke`; others come on both sides, and all change their place in the table.
        await backend.query(
          `delete from upstream_token where user_id = '${first?.userId}' and route_id = '${first?.routeId}'`,
        );
        await backend.query(`
        insert into upstream_token (user_id, route_id, upstream, sealed, key_id, refreshable)
        select side || n || '${last?.userId}', 'r2', 'https://up', 's', 'k', false
        from generate_series(1, 50) n, (values ('a'), ('z')) as sides (side) on conflict do nothing`);
        await backend.query("update upstream_token set updated_at = now()");
      }
      expect(new Set(listed).size).toBe(listed.length);
      const kept = new Set(await namesIn(condition));
      const missing = before.filter((name) => kept.has(name) && !listed.includes(String(name)));
      expect(missing).toEqual([]);
    },
  );

  it("grants, by user, with their last use", async () => {
    const records = store.authorizationServerRecords;
    const grant = (n: number) =>
      records.upsert({
        model: "Grant",
        id: `g${n}`,
        payload: { accountId: `company/${n % 100}`, clientId: n % 2 === 0 ? "even" : "odd" },
        expiresAt: inSeconds(60),
      });
    await Promise.all(Array.from({ length: 501 }, (_, n) => grant(n)));
    await records.upsert({ model: "Grant", id: "expired", payload: {}, expiresAt: inSeconds(-60) });
    const sizes: number[] = [];
    for await (const page of records.grantPages({})) sizes.push(page.length);
    expect(sizes).toEqual([500, 1]);
    const odd = await rowsOf(records.grantPages({ clientId: "odd" }));
    expect(new Set(odd.map(({ grantId }) => grantId)).size).toBe(250);
    const users = odd.map(({ userId }) => userId);
    expect(new Set(users.filter((user, at) => user !== users[at - 1])).size).toBe(50);
    await backend.query("update authorization_server_record set created_at = now() - interval '1 day'");
    await records.upsert({ model: "RefreshToken", id: "used", payload: { grantId: "g7" } });
    const [used] = await rowsOf(records.grantPages({ grantId: "g7" }));
    expect(Number(used?.lastUsedAt) - Number(used?.createdAt)).toBeGreaterThan(86_000_000);
  });

  it("audit events that few match, in a long trail", async () => {
    await backend.query(`
      insert into audit_event (action, user_id, at)
      select 'policy.denied', case when n % 15000 = 0 then 'rare' else 'other' end, now() - (50000 - n) * interval '1 second'
      from generate_series(1, 50000) n`);
    const rare = await store.auditEvents({ userId: "rare", limit: 10 });
    expect(rare.length).toBe(3);
    expect(await store.auditEvents({ userId: "rare", limit: 1, after: rare[0]?.id })).toEqual([rare[1]]);
    expect(await store.auditEvents({ userId: "rare", limit: 10, since: rare[1]?.at })).toEqual(rare.slice(1));
    expect(await store.auditEvents({ userId: "rare", limit: 10, since: inSeconds(60) })).toEqual([]);
    expect((await store.auditEvents({ limit: 100_000 })).length).toBe(50_000);
  });
});
