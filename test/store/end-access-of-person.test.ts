import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encryption } from "../../src/store/encryption/encryption.ts";
import { endGrants, type WhichGrants } from "../../src/store/end-grants.ts";
import { boundColumns, canonical } from "../../src/store/mac-columns.ts";
import type { Store } from "../../src/store/store.ts";
import { connected } from "../support/database-pool.ts";
import { type Backend, backends, makeKeys } from "./backends.ts";
import { inSeconds, signIn } from "./samples.ts";

const userId = "company/alice";
const other = "company/bob";
const rejected = { action: "person.rejected", reason: "rejected by the sign-in provider" } as const;
const tables = ["authorization_server_record", "delegation", "granted_member", "aggregate_session"] as const;

/** A grant with one row of everything that can belong to it. */
async function grant(store: Store, id: string, accountId: string): Promise<void> {
  const payload = { accountId, clientId: "client" };
  const expiresAt = inSeconds(3600);
  const records = store.authorizationServerRecords;
  const members = [{ routeId: "notes", upstream: "https://notes.example/mcp" }];
  const requested = { account: "service-account/a", ownerId: accountId, routeIds: ["notes"], expiresAt };
  await records.upsert({ model: "Grant", id, payload, expiresAt }, undefined, requested, members);
  for (const model of ["AccessToken", "RefreshToken"])
    await records.upsert({ model, id: `${model} ${id}`, payload: { ...payload, grantId: id }, expiresAt });
  const session = { handle: `session of ${id}`, userId: accountId, grantId: id, routeId: "notes" };
  await store.aggregateSessions.create({ ...session, expiresAt, state: {} }, 10);
}

async function signedIn(store: Store, person: string): Promise<void> {
  await store.signInSessions.put(signIn(person));
  const session = { id: `of ${person}`, host: "gateway.example", userId: person };
  await store.browserSessions.create({ ...session, createdAt: new Date(), expiresAt: inSeconds(3600) });
}

/** Adds copies of the grant `g` and of its rows, the copies of a name sorting after it. One statement: each starts the embedded database. */
const copies = (count: number) =>
  `with numbered as (select n::text as n from generate_series(1, ${count}) n),
  delegations as (insert into delegation (grant_id, route_id, account, owner_id, expires_at)
    select grant_id || n, route_id, account, owner_id, expires_at from delegation, numbered where grant_id = 'g'),
  members as (insert into granted_member (grant_id, route_id, upstream, expires_at)
    select grant_id || n, route_id, upstream, expires_at from granted_member, numbered where grant_id = 'g'),
  sessions as (insert into aggregate_session (handle_name, user_id, grant_id, route_id, version, sealed, key_id, expires_at)
    select handle_name || n, user_id, grant_id || n, route_id, version, sealed, key_id, expires_at
    from aggregate_session, numbered where grant_id = 'g')
  insert into authorization_server_record (model, id_name, grant_id, user_id, client_id, sealed, key_id, expires_at)
    select model, id_name || n, grant_id || n, user_id, client_id, sealed, key_id, expires_at
    from authorization_server_record, numbered where grant_id = 'g'`;

/** Gives the copies MACs, as if the gateway had written them. */
async function signed(backend: Pick<Backend, "query">): Promise<void> {
  const [key] = await backend.query("select kid, sealed from signing_key where purpose = 'row_mac'");
  const opened = encryption(await makeKeys("k1"));
  const { k } = await opened.decrypt<{ k: string }>("signing_key", [String(key?.kid)], String(key?.sealed));
  const table = "authorization_server_record";
  const rows = await backend.query(`select * from ${table} where mac is null`);
  const values = rows.map((row) => {
    const covered = boundColumns[table].columns.map((column) => canonical(row[column]));
    const mac = createHmac("sha256", Buffer.from(k, "base64url")).update(JSON.stringify([table, ...covered]));
    return `('${row.model}', '${row.id_name}', '${key?.kid}.${mac.digest("base64url")}')`;
  });
  await backend.query(`update ${table} set mac = given.mac from (values ${values.join(",")}) as given (model, id_name, mac)
    where ${table}.model = given.model and ${table}.id_name = given.id_name`);
}

/** The grants with rows, per table. */
async function left(backend: Pick<Backend, "query">) {
  const each = tables.map((table) => `select distinct '${table}' as name, grant_id from ${table}`);
  const rows = await backend.query(`${each.join(" union all ")} order by grant_id`);
  const of = (table: string) => rows.filter(({ name }) => name === table).map((row) => row.grant_id);
  return Object.fromEntries(tables.map((table) => [table, of(table)]));
}
const onlyIn = (...ids: string[]) => Object.fromEntries(tables.map((table) => [table, ids]));

async function eventsOf(store: Store) {
  const events = await store.auditEvents({ limit: 10_000, userId });
  const revoked = events.filter(({ action }) => action === "grant.revoked");
  return {
    revoked: revoked.length,
    grants: new Set(revoked.map(({ grantId }) => grantId)).size,
    about: [...new Set(revoked.map(({ clientId, reason }) => `${clientId}: ${reason}`))],
    others: events.filter((event) => !revoked.includes(event)).map(({ action }) => action),
  };
}
const eventsFor = (count: number) => ({
  ...{ revoked: count, grants: count, about: [`client: ${rejected.reason}`], others: ["person.rejected"] },
});

describe.each(["postgres", "embedded"] as const)("the end of a person's access, on %s", (kind) => {
  it("ends 2,000 grants with everything that belongs to them, each with its event, and nobody else's", async () => {
    const backend = await backends[kind]();
    try {
      const before = await backend.open();
      await signedIn(before, userId);
      await signedIn(before, other);
      await grant(before, "g", userId);
      await grant(before, "bob's", other);
      await before.close();
      await backend.query(copies(1_999));
      await signed(backend);
      const store = await backend.open();
      try {
        expect(await store.endAccessOfPerson(userId, rejected)).toMatchObject({ wasSignedIn: true });
        expect(await store.endAccessOfPerson(userId, rejected)).toEqual({ wasSignedIn: false, grants: [] });
        expect(await store.signInSessions.find(userId)).toBeUndefined();
        expect(await store.browserSessions.find(`of ${userId}`)).toBeUndefined();
        expect(await eventsOf(store)).toEqual(eventsFor(2_000));
        expect(await store.signInSessions.find(other)).toBeDefined();
        expect(await store.browserSessions.find(`of ${other}`)).toBeDefined();
      } finally {
        await store.close();
      }
      expect(await left(backend)).toEqual(onlyIn("bob's"));
    } finally {
      await backend.close();
    }
  });
});

let backend: Awaited<ReturnType<typeof backends.postgres>>;
let store: Store;
/** The person is signed in, and has these grants. */
async function prepare(...grants: readonly string[]): Promise<void> {
  backend = await backends.postgres();
  store = await backend.open();
  await signedIn(store, userId);
  for (const id of grants) await grant(store, id, userId);
}
async function close(): Promise<void> {
  await store?.close();
  await backend?.close();
}

describe("the end of a person's access", () => {
  beforeEach(() => prepare("g"));
  afterEach(close);

  it("that is interrupted keeps what it has ended, and the sign-in, so that the next one continues", async () => {
    await backend.query(copies(499));
    await signed(backend);
    await connected(backend.url, async (writer) => {
      await writer.query(`begin; select from authorization_server_record
        where model = 'Grant' order by id_name desc limit 1 for update`);
      await expect(store.endAccessOfPerson(userId, rejected)).rejects.toMatchObject({
        code: "store_unavailable",
      });
      expect((await left(backend)).authorization_server_record).toHaveLength(100);
      expect(await store.signInSessions.find(userId)).toBeDefined();
      await writer.query("rollback");
    });
    expect(await store.endAccessOfPerson(userId, rejected)).toMatchObject({ wasSignedIn: true });
    expect(await left(backend)).toEqual(onlyIn());
    expect(await eventsOf(store)).toEqual(eventsFor(500));
  });

  it("passes rows that the gateway has not written, however many, with the id of another's grant or none", async () => {
    await grant(store, "bob's", other);
    await backend.query(`insert into authorization_server_record (model, id_name, user_id, grant_id, sealed, key_id)
      select 'Grant', '!' || n, '${userId}', case when n % 2 = 0 then 'bob''s' end, '', 'k'
      from generate_series(1, 401) n`);
    expect(await store.endAccessOfPerson(userId, rejected)).toMatchObject({ wasSignedIn: true });
    const rows = await backend.query("select id_name from authorization_server_record");
    expect(rows.filter(({ id_name }) => !String(id_name).startsWith("!"))).toHaveLength(3);
    expect(await store.authorizationServerRecords.grantIsLive("bob's")).toBe(true);
    expect(await eventsOf(store)).toEqual(eventsFor(1));
  });

  it("also ends the refresh token that a rotation inserts at that moment", async () => {
    await connected(backend.url, async (rotation) => {
      await rotation.query(
        "begin; select from authorization_server_record where model = 'RefreshToken' for update",
      );
      const ending = store.endAccessOfPerson(userId, rejected);
      const waiting = () =>
        backend.query(
          "select 1 as lock from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        );
      await expect.poll(waiting, { timeout: 60_000 }).toHaveLength(1);
      await rotation.query(`insert into authorization_server_record (model, id_name, grant_id, user_id, sealed, key_id)
        select model, 'successor', grant_id, user_id, sealed, key_id
        from authorization_server_record where model = 'RefreshToken'`);
      await rotation.query("commit");
      expect(await ending).toMatchObject({ wasSignedIn: true });
    });
    expect(await left(backend)).toEqual(onlyIn());
  });

  it("by two replicas at once writes one event for each grant", async () => {
    await backend.query(copies(49));
    await signed(backend);
    const there = await backend.open();
    const ended = await Promise.all([store, there].map((one) => one.endAccessOfPerson(userId, rejected)));
    await there.close();
    expect(ended.map(({ wasSignedIn }) => wasSignedIn).toSorted()).toEqual([false, true]);
    expect(ended.flatMap(({ grants }) => grants)).toHaveLength(50);
    expect(await eventsOf(store)).toEqual(eventsFor(50));
  });
});

/** The attacker can write to the database, and has no key. */
describe("rows of grants that the gateway has not written", () => {
  beforeEach(async () => {
    await prepare("g", "h");
    await grant(store, "bob's", other);
  });
  afterEach(close);

  const rowOf = (grantId: string) => `where model = 'Grant' and grant_id = '${grantId.replace("'", "''")}'`;
  const forged = {
    "assigned to the person": `update authorization_server_record set user_id = '${userId}' ${rowOf("bob's")}`,
    "assigned to the person's client": `update authorization_server_record set client_id = 'client' ${rowOf("bob's")}`,
    "added for the person, with the id of the other's grant": `insert into authorization_server_record
      (model, id_name, grant_id, user_id, client_id, sealed, key_id, mac, expires_at)
      select model, '!' || id_name, 'bob''s', user_id, client_id, sealed, key_id, mac, expires_at
      from authorization_server_record ${rowOf("g")}`,
    "moved to the other's grant": `update authorization_server_record set grant_id = 'bob''s' ${rowOf("g")}`,
    "assigned to another person": `update authorization_server_record set user_id = 'company/carol' ${rowOf("g")}`,
    "of another client": `update authorization_server_record set client_id = 'other' ${rowOf("g")}`,
    "with the MAC of another row": `update authorization_server_record
      set mac = (select mac from authorization_server_record ${rowOf("h")}) ${rowOf("g")}`,
    "without a MAC": `update authorization_server_record set mac = null ${rowOf("g")}`,
    "with a damaged ciphertext": `update authorization_server_record set sealed = 'damaged' ${rowOf("g")}`,
    "with the ciphertext of another row": `update authorization_server_record
      set sealed = (select sealed from authorization_server_record ${rowOf("bob's")}) ${rowOf("g")}`,
  };
  const everyForgery = Object.entries(forged);
  const bobs = (one: Record<string, unknown>) => one.grant_id === "bob's" && String(one.id_name).length > 30;

  it.each(everyForgery)(
    "%s: the end of a person's access ends theirs, and nothing of others",
    async (_name, statement) => {
      const before = await backend.query("select * from authorization_server_record");
      await backend.query(statement);
      await store.endAccessOfPerson(userId, rejected);
      const rows = await backend.query("select * from authorization_server_record");
      expect(rows.filter((one) => one.grant_id === "bob's" && one.model !== "Grant")).toEqual(
        before.filter((one) => one.grant_id === "bob's" && one.model !== "Grant"),
      );
      expect(rows.some((one) => one.model === "Grant" && bobs(one))).toBe(true);
      expect(rows.filter(({ grant_id, model }) => grant_id !== "bob's" && model !== "Grant")).toEqual([]);
      for (const id of ["g", "h"]) expect(await store.authorizationServerRecords.grantIsLive(id)).toBe(false);
      const events = await store.auditEvents({ limit: 100 });
      const revoked = events.filter(({ action }) => action === "grant.revoked");
      expect(revoked.map(({ grantId, userId: of }) => `${grantId} of ${of}`).toSorted()).toEqual([
        `g of ${userId}`,
        `h of ${userId}`,
      ]);
    },
  );

  it.each(everyForgery)(
    "%s: revoking by user, client or id goes on, and ends nothing of others",
    async (_name, statement) => {
      await backend.query(statement);
      const revoke = async (which: WhichGrants) => {
        const ended: string[] = [];
        for await (const one of endGrants(store, which, { reason: "test" })) ended.push(one.grantId);
        return ended;
      };
      expect(await revoke({ grantId: "h" })).toEqual(["h"]);
      await grant(store, "i", userId);
      expect(await revoke({ userId })).toContain("i");
      const tokens = "select grant_id from authorization_server_record where model <> 'Grant'";
      expect(new Set((await backend.query(tokens)).map(({ grant_id }) => grant_id))).toEqual(
        new Set(["bob's"]),
      );
      await grant(store, "j", userId);
      const ofClient = await revoke({ clientId: "client", userId });
      expect(ofClient).toContain("j");
      expect(ofClient).not.toContain("bob's");
      const events = await store.auditEvents({ limit: 100, action: "grant.revoked" });
      expect(events.filter(({ grantId }) => grantId === "bob's")).toEqual([]);
    },
  );

  it.each(["damaged", ""])(
    "a grant whose ciphertext is %j is listed and can be revoked by its id",
    async (sealed) => {
      await backend.query(`update authorization_server_record set sealed = '${sealed}' ${rowOf("g")}`);
      const grants = await store.authorizationServerRecords.grants({ userId });
      expect(grants.map(({ grantId, clientId }) => [grantId, clientId])).toEqual([
        ["g", "client"],
        ["h", "client"],
      ]);
      const ended = [];
      for await (const one of endGrants(store, { grantId: "g" }, { reason: "test" })) ended.push(one.grantId);
      expect(ended).toEqual(["g"]);
    },
  );
});
