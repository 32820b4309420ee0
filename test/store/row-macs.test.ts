import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createDatabase } from "../../src/store/database.ts";
import { encryption } from "../../src/store/encryption/encryption.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { changeChannel } from "../../src/store/notifications/notifications.ts";
import { openPostgres } from "../../src/store/postgres/pool.ts";
import { rowMacs } from "../../src/store/row-macs.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { type Backend, backends, makeKeys } from "./backends.ts";
import { audit, connection, inSeconds, registration, signingKey, upstreamToken } from "./samples.ts";

const log: string[] = [];
const noisy = createLogger({ level: "error", destination: { write: (line) => log.push(line) } });
const metrics = createMetrics();
const { userId, routeId, upstream } = connection;
const { issuer, redirectUri } = registration();
const otherUpstream = "https://other.example.com";
const client = { routeId, upstream, clientId: "c" };
const route = { id: "stored", place: "a.test/", entry: { from: "https://a.test" } };

let backend: Backend & { url: string };
let store: Store;
beforeEach(async () => {
  log.length = 0;
  backend = await backends.postgres();
  store = await backend.open({ logger: noisy, metrics });
  await fill();
});
afterEach(async () => {
  await store.close();
  await backend.close();
});

async function fill(): Promise<void> {
  await store.signingKeys.ensure("external_token", async () => signingKey({ expiresAt: inSeconds(3600) }));
  await store.upstreamTokens.put(
    upstreamToken({ refreshExpiresAt: inSeconds(3600) }),
    audit("upstream_token.obtained"),
  );
  const demand = {
    scopes: ["more"],
    resourceMetadata: "https://files.example.com/prm",
    requiredAt: new Date(),
  };
  await store.upstreamTokens.requireScopes(connection, demand);
  await store.pendingAuthorizations.create({
    kind: "handover",
    state: "s",
    userId,
    expiresAt: inSeconds(600),
    payload: {},
  });
  await store.clientRegistrations.getOrRegister(issuer, redirectUri, async () =>
    registration({ secretExpiresAt: inSeconds(3600) }),
  );
  await store.clientIssuers.keep(client, issuer, false);
  await store.routeIssuers.add({ routeId, upstream }, issuer);
  const asked = {
    account: "service-account/ci",
    ownerId: userId,
    expiresAt: inSeconds(3600),
    routeIds: [routeId],
  };
  const payload = { accountId: userId, clientId: "c", uid: "u", userCode: "uc" };
  await store.authorizationServerRecords.upsert(
    { model: "Grant", id: "g", payload, expiresAt: inSeconds(3600) },
    undefined,
    asked,
    [{ routeId, upstream }],
  );
  await store.delegations.give(
    { grantId: "g", ownerId: userId, routeId, upstream },
    audit("delegation.created"),
  );
  const code = {
    model: "RefreshToken",
    id: "r",
    payload: { ...payload, grantId: "g" },
    expiresAt: inSeconds(3600),
  };
  await store.authorizationServerRecords.upsert(code);
  expect(await store.authorizationServerRecords.consume("RefreshToken", "r")).toBe(true);
  const session = { host: "auth.test", userId, createdAt: new Date(), expiresAt: inSeconds(3600) };
  await store.browserSessions.create({ ...session, id: "parent" });
  await store.browserSessions.create({ ...session, id: "b", parentName: hashedHandle("parent") });
  const person = { userId, providerId: "company", subject: "alice", sid: "sid", groups: [], claims: {} };
  await store.signInSessions.put({ ...person, checkedAt: new Date() });
  await store.storedRoutes.create(route, audit("route.created"));
  await store.aggregateSessions.create(
    { handle: "session", userId, grantId: "g", routeId, expiresAt: inSeconds(600), state: {} },
    10,
  );
  await store.elicitationSessions.record({ userId, routeId, sessionId: "s" });
  const ofBrowser = { sessionName: "b", userId, expiresAt: inSeconds(600) };
  await store.adminSessions.addCode({ code: "code", ...ofBrowser });
  await store.adminSessions.create({ id: "id", ...ofBrowser }, audit("admin.signed_in"));
}

/** What is read of each table; undefined if the row counts as absent. */
const reads = {
  upstream_token: () => store.upstreamTokens.find(connection),
  upstream_demand: () => store.upstreamTokens.findRequiredScopes(connection),
  pending_authorization: () => store.pendingAuthorizations.find("handover", "s"),
  client_registration: () => store.clientRegistrations.find(issuer, redirectUri),
  // Goes to the first caller, as if there were no row.
  client_issuer: async () => {
    const kept = await store.clientIssuers.keep(client, "https://next.example.com", false);
    return kept === "https://next.example.com" ? undefined : kept;
  },
  route_issuer: async () => (await store.routeIssuers.of(issuer))[0],
  authorization_server_record: () => store.authorizationServerRecords.find("RefreshToken", "r"),
  delegation: async () => (await store.delegations.ofGrant("g"))[0],
  granted_member: async () => (await store.grantedMembers.of("g")).get(routeId),
  browser_session: () => store.browserSessions.find("b"),
  sign_in_session: () => store.signInSessions.find(userId),
  signing_key: async () => (await store.signingKeys.list("external_token"))[0],
  stored_route: async () => (await store.storedRoutes.list())[0],
  aggregate_session: () => store.aggregateSessions.find("session", "store"),
  elicitation_session: async () =>
    (await store.elicitationSessions.has({ userId, routeId, sessionId: "s" })) || undefined,
  // Using a code deletes it.
  async admin_code() {
    const found = await store.adminSessions.takeCode("code");
    if (found) await store.adminSessions.addCode({ code: "code", ...found });
    return found;
  },
  admin_session: () => store.adminSessions.find("id"),
} as const;
type Table = keyof typeof reads;

const tampered: readonly (readonly [Table, string])[] = [
  ["upstream_token", "expires_at = now() + interval '1 year'"],
  ["upstream_token", "refreshable = false"],
  ["upstream_demand", `scopes = '["everything"]'`],
  ["upstream_demand", "resource_metadata = 'https://evil.example.com/prm'"],
  ["pending_authorization", "user_id = 'company/bob'"],
  ["pending_authorization", "expires_at = now() + interval '1 year'"],
  ["client_registration", "client_id = 'another'"],
  ["client_registration", "secret_expires_at = null"],
  ["client_issuer", "issuer = 'https://evil.example.com'"],
  ["route_issuer", "accepted = true"],
  ["route_issuer", "route_id = 'evil'"],
  ["route_issuer", "id = default"],
  ["authorization_server_record", "consumed_at = null"],
  ["authorization_server_record", "grant_id = 'another'"],
  ["authorization_server_record", "client_id = 'another'"],
  ["authorization_server_record", "user_id = 'company/bob'"],
  ["authorization_server_record", "expires_at = null"],
  ["delegation", "owner_id = 'company/bob'"],
  ["delegation", "account = 'service-account/other'"],
  ["delegation", "upstream = 'https://evil.example.com', delegated_at = now()"],
  ["delegation", "expires_at = now() + interval '1 year'"],
  ["granted_member", "route_id = 'payroll'"],
  ["granted_member", "upstream = 'https://evil.example.com'"],
  ["granted_member", "expires_at = null"],
  ["browser_session", "user_id = 'company/bob'"],
  ["browser_session", "host = 'other.test'"],
  ["browser_session", "parent_name = null"],
  ["browser_session", "expires_at = now() + interval '1 year'"],
  ["sign_in_session", "checked_at = now() + interval '1 year'"],
  ["sign_in_session", "subject = 'bob'"],
  ["sign_in_session", "provider_id = 'another'"],
  ["signing_key", "expires_at = null"],
  ["signing_key", "active_at = now() - interval '1 year'"],
  ["stored_route", "place = 'b.test/'"],
  ["stored_route", "version = 7"],
  ["aggregate_session", "user_id = 'company/bob'"],
  ["aggregate_session", "grant_id = 'another'"],
  ["aggregate_session", "route_id = 'another'"],
  ["aggregate_session", "version = 7"],
  ["aggregate_session", "expires_at = now() + interval '1 year'"],
  ["elicitation_session", "expires_at = now() + interval '1 year'"],
  ["elicitation_session", "user_name = 'another'"],
  ["admin_code", "user_id = 'company/bob'"],
  ["admin_code", "session_name = 'another'"],
  ["admin_session", "user_id = 'company/bob'"],
  ["admin_session", "session_name = 'another'"],
  ["admin_session", "expires_at = now() + interval '1 year'"],
];

describe("an attacker with write access to the database forges a row", () => {
  it.each(tampered)("%s: %s makes the row count as absent", async (table, change) => {
    expect(await reads[table]()).toBeDefined();
    await backend.query(`update ${table} set ${change} where mac is not null`);
    expect(await reads[table]()).toBeUndefined();
    expect(log.join("")).toContain(`"table":"${table}"`);
    expect(await metrics.registry.metrics()).toMatch(
      new RegExp(`store_rows_rejected_total{table="${table}"} [1-9]`),
    );
  });

  it.each(Object.keys(reads))("%s: a row without a MAC counts as absent", async (name) => {
    const table = Object.keys(reads).find((one): one is Table => one === name) ?? "browser_session";
    await backend.query(
      `update ${table} set mac = null where ${table === "signing_key" ? "purpose <> 'row_mac'" : "true"}`,
    );
    expect(await reads[table]()).toBeUndefined();
  });

  it("a forged session does not authenticate", async () => {
    await backend.query(`insert into browser_session (id_name, host, user_id, created_at, expires_at, mac)
      select '${hashedHandle("forged")}', host, user_id, created_at, expires_at, mac from browser_session limit 1`);
    expect(await store.browserSessions.find("forged")).toBeUndefined();
    expect(await store.browserSessions.isLive(hashedHandle("forged"))).toBe(false);
  });

  it("a used refresh token cannot be restored or used again", async () => {
    await backend.query("update authorization_server_record set consumed_at = null");
    expect(await store.authorizationServerRecords.consume("RefreshToken", "r")).toBe(false);
  });

  it("deleting the MAC key and restarting does not sign forged rows", async () => {
    await backend.query("delete from signing_key where purpose = 'row_mac'");
    await store.close();
    store = await backend.open({ logger: noisy, metrics });
    await store.bindRows();
    expect(await store.browserSessions.find("b")).toBeUndefined();
    await backend.query("delete from signing_key");
    await store.close();
    store = await backend.open({ logger: noisy, metrics });
    await store.bindRows();
    expect(await store.browserSessions.find("b")).toBeUndefined();
  });

  it.each([
    [
      "all keys deleted, and one planted that cannot be decrypted",
      ["delete from signing_key", planted("external_token")],
    ],
    [
      "the MAC key disguised as one of an older version",
      [
        "delete from signing_key where purpose <> 'row_mac'",
        "update signing_key set purpose = 'external_token'",
      ],
    ],
  ])("rows without a MAC are still rejected: %s", async (_, statements) => {
    for (const statement of statements) await backend.query(statement);
    await backend.query(`insert into browser_session (id_name, host, user_id, created_at, expires_at)
      values ('${hashedHandle("forged")}', 'auth.test', '${userId}', now(), now() + interval '1 day')`);
    await store.close();
    store = await backend.open({ logger: noisy, metrics });
    expect(await store.browserSessions.find("forged")).toBeUndefined();
    await store.bindRows();
    expect(await store.browserSessions.find("forged")).toBeUndefined();
  });

  it("another key disguised as a MAC key signs nothing", async () => {
    const [key] = await backend.query("select kid from signing_key where purpose = 'row_mac'");
    await backend.query("update signing_key set purpose = 'row_mac' where purpose = 'external_token'");
    // The other key comes first.
    await backend.query(`update signing_key set key_id = key_id where kid = '${key?.kid}'`);
    await store.close();
    store = await backend.open({ logger: noisy, metrics });
    expect(await store.browserSessions.find("b")).toBeDefined();
    await store.browserSessions.create({
      ...{ id: "c", host: "auth.test", userId },
      ...{ createdAt: new Date(), expiresAt: inSeconds(3600) },
    });
    const [row] = await backend.query(
      `select mac from browser_session where id_name = '${hashedHandle("c")}'`,
    );
    expect(String(row?.mac).startsWith(`${key?.kid}.`)).toBe(true);
  });

  it("a forged row does not prevent registering a client or creating a route", async () => {
    await backend.query("update client_registration set client_id = 'another'");
    const made = registration({ clientId: "fresh" });
    const { clientRegistrations, storedRoutes } = store;
    expect(await clientRegistrations.getOrRegister(issuer, redirectUri, async () => made)).toEqual(made);
    expect(await clientRegistrations.find(issuer, redirectUri)).toEqual(made);

    await backend.query("update stored_route set place = 'b.test/'");
    expect(await storedRoutes.create(route, audit("route.created"))).toBe(true);
    await backend.query("update stored_route set id = 'forged', place = 'b.test/'");
    const moved = { ...route, place: "b.test/" };
    expect(await storedRoutes.create(route, audit("route.created"))).toBe(true);
    const version = (await storedRoutes.list())[0]?.version ?? 0;
    expect(await storedRoutes.replace(moved, version, audit("route.changed"))).toBe("replaced");
    expect(await storedRoutes.list()).toMatchObject([moved]);
  });

  it("a changed route is listed with its entry, not with the place in its row; one that no key decrypts is not", async () => {
    await backend.query("update stored_route set place = 'b.test/'");
    const { id, entry } = route;
    expect(await store.storedRoutes.listAll()).toEqual({
      routes: [],
      unreadable: [],
      rejected: [{ id, entry }],
    });
    await backend.query("update stored_route set id = 'forged'");
    expect(await store.storedRoutes.listAll()).toEqual({ routes: [], unreadable: [], rejected: [] });
  });

  it("a forged route neither precedes the others at an authorization server, nor is it accepted there", async () => {
    await backend.query(`insert into route_issuer (route_id, upstream, issuer, accepted, mac)
      select 'evil', '${otherUpstream}', issuer, true, mac from route_issuer`);
    expect(await store.routeIssuers.of(issuer)).toEqual([{ routeId, upstream, accepted: false }]);
    // The forged row does not prevent the route from being recorded.
    expect(await store.routeIssuers.add({ routeId: "evil", upstream: otherUpstream }, issuer)).toBe(true);
    expect(await store.routeIssuers.of(issuer)).toEqual([
      { routeId, upstream, accepted: false },
      { routeId: "evil", upstream: otherUpstream, accepted: false },
    ]);
    expect(await store.routeIssuers.add({ routeId: "evil", upstream: otherUpstream }, issuer)).toBe(false);
  });
});

/** A signing key that no key decrypts. */
function planted(purpose: string): string {
  return `insert into signing_key (kid, purpose, sealed, key_id, created_at, active_at)
    values ('planted', '${purpose}', 'e30.a.b.c.d', 'k1', now(), now())`;
}

describe("rows of a version without MACs", () => {
  /** The state of such a version: no MACs, no MAC key, no mark on the signing keys. */
  async function asBefore(): Promise<void> {
    await store.close();
    await backend.query("delete from signing_key");
    for (const table of Object.keys(reads)) await backend.query(`update ${table} set mac = null`);
    const older = await backend.open();
    await older.close();
    const { rowsOfVersion } = await import("./rows-of-version.ts");
    const rows = (await rowsOfVersion("0001_tables", ["0001_tables"])).filter(
      ({ table }) => table === "signing_key",
    );
    for (const { table, values } of rows) {
      const literals = Object.values(values).map((value) =>
        value === null ? "null" : `'${value instanceof Date ? value.toISOString() : value}'`,
      );
      await backend.query(
        `insert into ${table} (${Object.keys(values).join(", ")}) values (${literals.join(", ")})`,
      );
    }
    store = await backend.open({ logger: noisy, metrics });
  }

  it("are read while older replicas may serve, then get their MACs once, and forged ones are rejected", async () => {
    await asBefore();
    for (const table of ["browser_session", "upstream_token", "sign_in_session", "delegation"] as const)
      expect(await reads[table](), table).toBeDefined();
    // Like an older replica.
    await backend.query("update sign_in_session set checked_at = now()");
    expect(await reads.sign_in_session()).toBeDefined();

    await store.bindRows();
    for (const table of Object.keys(reads) as Table[]) expect(await reads[table](), table).toBeDefined();
    await backend.query("update browser_session set user_id = 'company/bob'");
    expect(await reads.browser_session()).toBeUndefined();
    await store.bindRows();
    expect(await reads.browser_session()).toBeUndefined();
  });

  it("get their MACs from one replica at a time, which continues where another has stopped", async () => {
    await asBefore();
    await backend.query(
      "insert into row_pass (kind, owner, lease_until) values ('bind_rows', 'other', now() + interval '1 minute')",
    );
    await store.bindRows();
    await backend.query("update browser_session set user_id = 'company/carol'");
    expect(await reads.browser_session()).toBeDefined();
    await backend.query("update row_pass set lease_until = now()");
    await store.bindRows();
    for (const table of Object.keys(reads) as Table[]) expect(await reads[table](), table).toBeDefined();
    expect(await backend.query("select * from row_pass")).toEqual([]);
    await backend.query("update browser_session set user_id = 'company/bob'");
    expect(await reads.browser_session()).toBeUndefined();
  });

  it("get their MACs even if a key was planted that cannot be decrypted", async () => {
    await asBefore();
    await backend.query(planted("external_token"));
    await store.bindRows();
    await backend.query("update browser_session set mac = null");
    expect(await reads.browser_session()).toBeUndefined();
  });

  it("are rejected by a process that has seen the MACs, even after the restore of an old backup", async () => {
    await asBefore();
    await backend.query("create table backup as select * from signing_key");
    await store.bindRows();
    // At once: a process that reads the keys in between would create one.
    await backend.query(`
      with newer as (delete from signing_key where kid not in (select kid from backup))
      update signing_key set sealed = backup.sealed, mac = backup.mac from backup where backup.kid = signing_key.kid`);
    await backend.query("update browser_session set mac = null");
    await backend.query(`select pg_notify('${changeChannel}', '{"table":"signing_key"}')`);
    await expect
      .poll(() => log.join(""), { timeout: 60_000 })
      .toContain("the database no longer reports its rows as bound");
    expect(await reads.browser_session()).toBeUndefined();
  });

  it("get MACs again after a version that bound all tables except one", async () => {
    const { encrypt, decrypt } = encryption(await makeKeys("k1"));
    const [key] = await backend.query("select kid, sealed from signing_key where purpose = 'row_mac'");
    const kid = String(key?.kid);
    const { tables: _, ...before } = await decrypt<Record<string, unknown>>(
      "signing_key",
      [kid],
      String(key?.sealed),
    );
    const { sealed } = await encrypt("signing_key", [kid], before);
    await backend.query(`update signing_key set sealed = '${sealed}' where kid = '${kid}'`);
    await backend.query("update route_issuer set mac = null, accepted = true");
    await backend.query("update client_issuer set mac = null");
    await store.close();
    store = await backend.open({ logger: noisy, metrics });
    expect(await reads.route_issuer()).toMatchObject({ accepted: true });
    // Replicas of the previous version may still write such rows.
    await store.removeExpired(new Date());
    await backend.query("update route_issuer set mac = null");
    expect(await reads.route_issuer()).toMatchObject({ accepted: true });
    const clock = vi.spyOn(Date, "now").mockReturnValue(Date.now() + 3_700_000);
    await store.removeExpired(new Date()).finally(() => clock.mockRestore());
    expect(await reads.route_issuer()).toMatchObject({ accepted: true });
    await backend.query("update route_issuer set mac = null");
    expect(await reads.route_issuer()).toBeUndefined();
    // Rows that were rejected before are not signed with it.
    expect(await reads.client_issuer()).toBeUndefined();
  });

  it("are rejected by every replica after one of them has added the MACs", async () => {
    await asBefore();
    const other = await backend.open({ logger: noisy, metrics });
    expect(await other.browserSessions.find("b")).toBeDefined();
    await store.bindRows();
    await backend.query("update browser_session set mac = null");
    await expect.poll(() => other.browserSessions.find("b"), { timeout: 60_000 }).toBeUndefined();
    await other.close();
  });
});

it("rotate-keys creates a new MAC key; rows forged before stay rejected", async () => {
  const key = async () =>
    (await backend.query("select kid from signing_key where purpose = 'row_mac'"))[0]?.kid;
  const before = await key();
  await backend.query("update upstream_demand set resource_metadata = 'https://evil.example.com'");
  await store.rotateEncryptionKeys();
  expect(await key()).not.toBe(before);
  for (const table of Object.keys(reads) as Table[])
    if (table === "upstream_demand") expect(await reads[table](), table).toBeUndefined();
    else expect(await reads[table](), table).toBeDefined();
});

it("a row is replaced by another only if it is forged according to the current keys", async () => {
  const db = openPostgres({ url: backend.url, size: 2, timeoutMs: 30_000, name: "test", logger: noisy });
  const database = createDatabase(db, { timeoutMs: 30_000, close: () => db.destroy() });
  // Without a notification.
  const macs = rowMacs(database, encryption(await makeKeys("k1")), { logger: noisy });
  await macs.ready();
  await store.rotateEncryptionKeys();
  const [row] = await database.read("rows", (any) => any.selectFrom("stored_route").selectAll().execute());
  if (!row) throw new Error("no row");
  expect(await macs.isForged("stored_route", row)).toBe(false);
  expect(await macs.isForged("stored_route", { ...row, place: "b.test/" })).toBe(true);
  await database.close();
});
