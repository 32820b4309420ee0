import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { withStore } from "../../src/cli/command.ts";
import { runRoutes } from "../../src/cli/routes.ts";
import { runServiceAccounts } from "../../src/cli/service-accounts.ts";
import { createTestDatabase } from "../support/postgres.ts";

let folder: string;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let env: Record<string, string>;
const written: Record<"out" | "err", string> = { out: "", err: "" };

const routes = [
  { id: "files", from: "https://files.test", to: "https://files.internal/mcp", mcp: {} },
  { id: "app", from: "https://app.test", to: "http://app.internal", mcp: { client: {} }, enabled: false },
  { id: "all", from: "https://all.test", mcp: { aggregate: { routes: "all" } } },
];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "routes-"));
  database = await createTestDatabase();
  env = { DATABASE_URL: database.url, ENCRYPTION_KEY: randomBytes(32).toString("base64url") };
  const config = {
    issuer: "https://auth.test",
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    database: { dir: join(folder, "data") },
    policy: [{ allow: { and: [{ accept: true }] } }],
    routes,
  };
  await writeFile(join(folder, "routes.yaml"), JSON.stringify(config), { mode: 0o600 });
  await withStore(options(), async ({ store }) => {
    const create = (id: string, entry: object) =>
      store.storedRoutes.create(
        { id, place: id, entry: { ...entry } },
        { action: "route.created", routeId: id },
      );
    const none = { server: { upstream_auth: "none" } };
    await create("added", { from: "https://added.test", to: "https://added.internal", mcp: none });
    await create("clash", { from: "https://files.test", to: "https://other.internal", mcp: none });
    const auth = { server: { upstream_auth: { api_key: { header: "x-key", value: "" } } } };
    await create("keyless", { from: "https://keyless.test", to: "https://k.internal", mcp: auth });
    await create("lost", { from: "https://lost.test", to: "https://l.internal", mcp: none });
    await create("changed", { from: "https://changed.test", to: "https://c.internal", mcp: none });
    await create("newer", { from: "https://newer.test", to: "https://x.test", mcp: none, unknown_key: 1 });
    return 0;
  });
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  // Of another row, and another version.
  await client.query(
    "update stored_route set sealed = (select sealed from stored_route where id = 'added') where id = 'lost'",
  );
  await client.query("update stored_route set version = 7 where id = 'changed'");
  await client.end();
});
afterAll(async () => {
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

const options = (environment = env) => ({
  ...{ file: join(folder, "routes.yaml"), env: environment, drained: async () => true },
  out(text: string) {
    written.out += text;
  },
  err(text: string) {
    written.err += text;
  },
});
async function list(more: Partial<Parameters<typeof runRoutes>[0]> = {}, environment = env) {
  Object.assign(written, { out: "", err: "" });
  expect(await runRoutes({ ...options(environment), ...more })).toBe(0);
  return written.out;
}
const documents = async (more: Partial<Parameters<typeof runRoutes>[0]> = {}, environment = env) =>
  (await list({ json: true, ...more }, environment))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

it("routes list: the routes of the file and of the database, and why one is not in force", async () => {
  expect(await documents()).toEqual([
    {
      ...{ id: "added", source: "database", url: "https://added.test", to: ["https://added.internal"] },
      ...{ kind: "server", auth: "none", enabled: true, in_force: true, problems: [] },
      cursor: expect.any(String),
    },
    expect.objectContaining({ id: "all", source: "file", auth: "aggregate", to: [], in_force: true }),
    expect.objectContaining({ id: "app", source: "file", kind: "client", enabled: false }),
    {
      ...{ id: "changed", source: "database", in_force: false, cursor: expect.any(String) },
      problems: [expect.objectContaining({ message: expect.stringContaining("not written by the gateway") })],
    },
    expect.objectContaining({
      ...{ id: "clash", source: "database", in_force: false },
      problems: [
        {
          path: "from",
          message: expect.stringContaining("already claimed by routes[0]"),
          fix: expect.any(String),
        },
      ],
    }),
    expect.objectContaining({ id: "files", source: "file", auth: "oauth", enabled: true }),
    expect.objectContaining({
      ...{ id: "keyless", source: "database", url: "https://keyless.test", in_force: false },
      problems: [expect.objectContaining({ path: "mcp.server.upstream_auth.api_key.value" })],
    }),
    {
      ...{ id: "lost", source: "database", in_force: false, cursor: expect.any(String) },
      problems: [expect.objectContaining({ fix: expect.stringContaining("encryption.keys") })],
    },
    expect.objectContaining({
      ...{ id: "newer", source: "database", in_force: false },
      problems: [expect.objectContaining({ message: 'unknown key "unknown_key"' })],
    }),
  ]);
  const lines = (await list()).split("\n");
  expect(lines[0]).toMatch(/^ROUTE +SOURCE +URL +TO +KIND +AUTH +ENABLED +IN FORCE +PROBLEMS$/);
  expect(lines[3]).toMatch(/^app +file +https:\/\/app.test +http:\/\/app.internal +client +- +no +yes +-$/);
  expect(lines[5]).toMatch(/^clash +database .* yes +no +from: https:\/\/files.test is already claimed/);
});

it("routes list: continues after a cursor", async () => {
  const all = await documents();
  const first = await documents({ limit: 2 });
  expect(first).toEqual(all.slice(0, 2));
  const after = JSON.parse(Buffer.from(first[1].cursor, "base64url").toString());
  expect(await documents({ after })).toEqual(all.slice(2));
});

it("routes list: without a database, lists the routes of the file and creates none", async () => {
  expect((await documents({}, {})).map(({ id }) => id)).toEqual(["all", "app", "files"]);
  expect(existsSync(join(folder, "data"))).toBe(false);
});

it("routes list: fails without the database, because a list of the file only would look complete", async () => {
  const away = { ...env, DATABASE_URL: "postgres://127.0.0.1:1/none" };
  await expect(runRoutes(options(away))).rejects.toMatchObject({ code: "store_unavailable" });
});

it("service accounts: a stored route is known, also as a member of an aggregated route", async () => {
  Object.assign(written, { out: "", err: "" });
  const create = (name: string, routeIds: string[]) =>
    runServiceAccounts({ kind: "create", name, routeIds, lifetime: 60 }, options());
  expect(await create("a", ["added"])).toBe(0);
  expect(await create("b", ["all"])).toBe(0);
  expect(written.err).toContain("members of aggregated routes that it may use: files, added, keyless\n");
  expect(await create("c", ["nope"])).toBe(1);
  expect(written.err).toContain("no such server route: nope; known routes: files, all, added, keyless\n");
});
