import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type Database } from "../../src/store/database.ts";
import { removeExpired } from "../../src/store/expired-rows.ts";
import { openPostgres } from "../../src/store/postgres/pool.ts";
import type { Store } from "../../src/store/store.ts";
import { askForDelegation } from "../support/ask-for-delegation.ts";
import { backends, logger } from "./backends.ts";
import { audit, connection, inSeconds, signIn, upstreamToken } from "./samples.ts";

const days = (n: number) => inSeconds(n * 86_400);

describe("a round that removes expired rows", () => {
  let backend: Awaited<ReturnType<typeof backends.postgres>>;
  let store: Store;
  let database: Database;
  beforeAll(async () => {
    backend = await backends.postgres();
    store = await backend.open();
    const db = openPostgres({ url: backend.url, timeoutMs: 30_000, size: 1, name: "test", logger });
    database = createDatabase(db, { timeoutMs: 30_000, close: () => db.destroy() });
  });
  afterAll(async () => {
    await database?.close();
    await store?.close();
    await backend?.close();
  });
  const usedValues = (count: number) =>
    backend.query(`
      insert into used_value (kind, name, expires_at)
      select 'test', n::text, now() - interval '1 hour' from generate_series(1, ${count}) n`);
  const left = async () => (await backend.query("select count(*)::int from used_value"))[0]?.count;

  it("is limited: the next ones remove what is left, and every kind has its turn", async () => {
    await usedValues(10);
    await backend.query(`
      insert into elicitation_session (session_name, user_name, expires_at)
      values ('s', 'u', now() - interval '1 minute')`);
    const logged: unknown[] = [];
    const options = {
      logger: { info: (fields: unknown) => void logged.push(fields) },
      ...{ batchSize: 2, maxBatches: 2 },
    };
    const round = () => removeExpired(database, { built: async () => true }, new Date(), options);
    expect(await round()).toMatchObject({ used_value: 4, elicitation_session: 1 });
    expect(logged).toEqual([{ tables: ["used_value"] }]);
    expect(await round()).toMatchObject({ used_value: 4 });
    expect(await round()).toMatchObject({ used_value: 2 });
    expect(logged.length).toBe(2);
    expect(await left()).toBe(0);
  });

  it("leaves rows in use to the next one, without waiting for them", async () => {
    await usedValues(3);
    await database.write("test", async (tx) => {
      await tx.selectFrom("used_value").select("name").where("name", "=", "2").forUpdate().execute();
      expect(await store.removeExpired(new Date())).toMatchObject({ used_value: 2 });
    });
    expect(await store.removeExpired(new Date())).toMatchObject({ used_value: 1 });
  });

  it("removes the leases of client registrations that ended or never finished, and leaves the current ones", async () => {
    await backend.query(`
      insert into client_registration (issuer, redirect_uri, lease_owner, lease_until) values
        ('https://ended.example', 'r', null, null),
        ('https://dead.example', 'r', 'a', now() - interval '1 minute'),
        ('https://current.example', 'r', 'a', now() + interval '1 minute')`);
    expect(await store.removeExpired(new Date())).toMatchObject({ client_registration: 2 });
    expect(await backend.query("select issuer from client_registration")).toEqual([
      { issuer: "https://current.example" },
    ]);
  });

  it("keeps people who are in use, whatever depends on them, and asks again a week later, not every time", async () => {
    const [session, grant, owner, nobody] = ["session", "grant", "owner", "nobody"].map(
      (name) => `company/${name}`,
    );
    for (const userId of [session, grant, owner, nobody])
      await store.signInSessions.put(signIn(userId ?? ""));
    const expiresAt = days(120);
    const times = { createdAt: new Date(), expiresAt };
    await store.browserSessions.create({ id: "b", host: "h", userId: session ?? "", ...times });
    const payload = { accountId: grant };
    await store.authorizationServerRecords.upsert({ model: "Grant", id: "g", payload, expiresAt });
    const { routeId, upstream } = connection;
    const given = { grantId: "account", ownerId: owner ?? "", routeId };
    await askForDelegation(store, {
      ...given,
      account: "service-account/ci",
      routeIds: [routeId],
      expiresAt,
    });
    await store.upstreamTokens.put(
      upstreamToken({ userId: owner, expiresAt: undefined }),
      audit("upstream_token.obtained"),
    );
    expect(await store.delegations.give({ ...given, upstream }, audit("delegation.created"))).toBe(true);

    const known = async () =>
      (await backend.query("select user_id from sign_in_session order by user_id")).map((row) => row.user_id);
    expect(await store.removeExpired(days(89))).toMatchObject({ sign_in_session: 0 });
    expect(await store.removeExpired(days(91))).toMatchObject({ sign_in_session: 1 });
    expect(await known()).toEqual([grant, owner, session]);
    await store.browserSessions.endForUser(session ?? "");
    expect(await store.removeExpired(days(97))).toMatchObject({ sign_in_session: 0 });
    expect(await store.removeExpired(days(99))).toMatchObject({ sign_in_session: 1 });
    // A sign-in starts the time again.
    await store.signInSessions.put({ ...signIn(grant ?? ""), checkedAt: days(100) });
    expect(await store.removeExpired(days(180))).toMatchObject({ sign_in_session: 1 });
    expect(await known()).toEqual([grant]);
    expect(await store.removeExpired(days(191))).toMatchObject({ sign_in_session: 1 });
  });

  it("goes on with the other kinds when one fails, and fails then", async () => {
    await usedValues(1);
    await backend.query("alter table elicitation_session rename to moved");
    await expect(store.removeExpired(new Date())).rejects.toThrow("elicitation_session");
    await backend.query("alter table moved rename to elicitation_session");
    expect(await left()).toBe(0);
  });
});
