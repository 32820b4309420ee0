import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { logger, makeKeys } from "./backends.ts";
import { migrateTo } from "./migrate-to.ts";
import { rowsOfVersion, type WrittenRow } from "./rows-of-version.ts";
import { connection } from "./samples.ts";

type Target = { readonly url: string } | { readonly dir: string };
type Row = Readonly<{ [column: string]: unknown }>;

const names = (await readdir(join(import.meta.dirname, "../../migrations")))
  .map((file) => file.replace(/\.ts$/, ""))
  .sort();

/** A newly created embedded database; creating one takes seconds. */
let empty: string;
beforeAll(async () => {
  empty = await mkdtemp(join(tmpdir(), "versions-"));
  await (await PGlite.create({ dataDir: join(empty, "database") })).close();
});
afterAll(() => rm(empty, { recursive: true, force: true }));

const targets = {
  async postgres(): Promise<{ target: Target; close(): Promise<void> }> {
    const { url, close } = await createTestDatabase({ empty: true });
    return { target: { url }, close };
  },
  async embedded(): Promise<{ target: Target; close(): Promise<void> }> {
    const dir = await mkdtemp(join(tmpdir(), "versions-"));
    await cp(empty, dir, { recursive: true });
    return { target: { dir }, close: () => rm(dir, { recursive: true, force: true }) };
  },
};

/** Runs one statement; several on one connection, since opening an embedded database takes a second. */
type Query = (text: string, values?: unknown[]) => Promise<Row[]>;

async function connected<T>(target: Target, use: (query: Query) => Promise<T>): Promise<T> {
  if ("url" in target) {
    const client = new pg.Client({ connectionString: target.url });
    await client.connect();
    return use(async (text, values) => (await client.query(text, values)).rows).finally(() => client.end());
  }
  const pglite = await PGlite.create({ dataDir: join(target.dir, "database") });
  return use(async (text, values) => (await pglite.query<Row>(text, values)).rows).finally(() =>
    pglite.close(),
  );
}

async function write(query: Query, rows: readonly WrittenRow[]): Promise<void> {
  for (const { table, values } of rows) {
    const columns = Object.keys(values);
    const places = columns.map((_, index) => `$${index + 1}`);
    await query(
      `insert into ${table} (${columns.join(", ")}) values (${places.join(", ")})`,
      Object.values(values),
    );
  }
}

/**
 * The schema that an old replica relies on (columns that it reads and writes, and which are required), and the number of rows in
 * each table.
 */
async function look(query: Query): Promise<[{ columns: Row[]; rules: Row[] }, Row]> {
  const columns = await query(
    `select table_name, column_name, data_type, is_nullable, column_default is not null or is_identity = 'YES' as filled
     from information_schema.columns where table_schema = 'public' and table_name not like 'kysely%'`,
  );
  const rules = await query(
    `select conrelid::regclass::text as table_name, pg_get_constraintdef(oid) as rule
     from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n'`,
  );
  const tables = new Set(columns.map(({ table_name }) => String(table_name)));
  const counts = [...tables].map((table) => `(select count(*)::int from ${table}) as ${table}`);
  const [rows = {}] = await query(`select ${counts.join(", ")}`);
  return [{ columns, rules }, rows];
}

/** Reads everything that `rowsOfVersion` wrote, with the current code. */
async function readAll(target: Target, version: string): Promise<void> {
  const location = "url" in target ? { url: target.url, dir: "/nonexistent" } : target;
  const store = await openStore({ ...location, keys: await makeKeys("k1"), logger });
  try {
    const { userId } = connection;
    expect(await store.upstreamTokens.find(connection)).toMatchObject({
      accessToken: "secret-access-token",
      refreshToken: "secret-refresh-token",
    });
    expect(await store.upstreamTokens.findRequiredScopes(connection)).toMatchObject({ scopes: ["more"] });
    expect(await store.pendingAuthorizations.find("upstream", "state")).toMatchObject({
      payload: { from: "old" },
    });
    expect(await store.clientRegistrations.find("https://as.example.com", "https://a.test/cb")).toMatchObject(
      { clientId: "c", clientSecret: "secret-client-secret" },
    );
    expect(await store.authorizationServerRecords.grantIsLive("g1")).toBe(true);
    expect(await store.authorizationServerRecords.consume("RefreshToken", "r1")).toBe(true);
    expect(await store.browserSessions.isLive(hashedHandle("b1"))).toBe(true);
    expect(await store.signInSessions.find(userId)).toMatchObject({
      groups: ["staff"],
      emailUnchecked: true,
    });
    expect(await store.signingKeys.list("external_token")).toMatchObject([{ kid: "k-old" }]);
    expect(await store.auditEvents({ limit: 10 })).toMatchObject([{ action: "grant.created" }]);
    const routes = (await store.storedRoutes.list()).map(({ id }) => id);
    expect(routes).toEqual(version >= "0003" ? ["stored"] : []);
    expect((await store.delegations.ofGrant("g1")).length).toBe(version >= "0004" ? 1 : 0);
    const { routeId, upstream } = connection;
    const members = Object.fromEntries(await store.grantedMembers.of("g1"));
    expect(members).toEqual(version >= "0014" ? { [routeId]: upstream } : {});
    const client = { routeId, upstream, clientId: "c" };
    const first = version >= "0005" ? "https://as.example.com" : "https://other.example.com";
    expect(await store.clientIssuers.keep(client, "https://other.example.com", false)).toBe(first);
    expect((await store.aggregateSessions.find("session"))?.state).toEqual(
      version >= "0015" ? { members: 1 } : undefined,
    );
    const used = version >= "0008" ? [{ routeId, upstream, accepted: false }] : [];
    expect(await store.routeIssuers.of("https://as.example.com")).toEqual(used);
  } finally {
    await store.close();
  }
}

/** The first version and the one before the newest: the engines differ, the migrations are the same. */
const onEmbedded = [...new Set([names[0] ?? "", names.at(-2) ?? ""])];

describe.each([
  ["postgres", names],
  ["embedded", onEmbedded],
] as const)("from every earlier version, on %s", (kind, versions) => {
  let target: Target;
  let close: () => Promise<void>;
  beforeEach(async () => {
    ({ target, close } = await targets[kind]());
  });
  afterEach(() => close());

  it.each(versions)(
    "%s: its data is preserved, and it still works with the newest schema",
    async (version) => {
      await migrateTo(version, target);
      const rows = await rowsOfVersion(version, names);
      const [old, before] = await connected(target, async (query) => {
        await write(query, rows);
        return look(query);
      });
      const without = Object.entries(before).filter(([, count]) => count === 0);
      expect(without.filter(([table]) => table !== "audit_event_default")).toEqual([]);

      expect(await migrate(target)).toEqual(names.slice(names.indexOf(version) + 1));
      const [now, after] = await connected(target, look);
      expect(after).toMatchObject(before);
      await readAll(target, version);

      // Its schema still exists, and it does not have to fill in new columns.
      const ofOld = new Set(old.columns.map(({ table_name }) => table_name));
      const same = (a: Row) => (b: Row) => a.table_name === b.table_name && a.column_name === b.column_name;
      for (const column of old.columns) expect(now.columns.find(same(column))).toEqual(column);
      const added = now.columns.filter(
        (column) => ofOld.has(column.table_name) && !old.columns.some(same(column)),
      );
      expect(added.filter(({ is_nullable, filled }) => is_nullable === "NO" && !filled)).toEqual([]);
      const rules = now.rules.filter(({ table_name }) => ofOld.has(table_name));
      expect(old.rules).toEqual(expect.arrayContaining(rules));
      // And newer versions read what it writes.
      await connected(target, async (query) => {
        // Partitions of the audit trail keep their rows otherwise.
        await query("select set_config('envoy_mcp_auth.audit_events', 'movable', false)");
        for (const table of ofOld) await query(`delete from ${table}`);
        await write(query, rows);
      });
      await readAll(target, version);
    },
  );
});
