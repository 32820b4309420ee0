import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { freePort } from "../../dev/demo/free-port.ts";
import { programFile, sidecar } from "../../dev/demo/sidecar.ts";
import { loadKeyEncryptionKeys } from "../../src/store/encryption/load-keys.ts";
import { migrationIndexes } from "../../src/store/migrate.ts";
import { openStore } from "../../src/store/open-store.ts";
import { logger } from "../store/backends.ts";
import { audit, upstreamToken } from "../store/samples.ts";
import { createTestDatabase } from "../support/postgres.ts";

const [[name, definition] = []] = Object.entries(await migrationIndexes());
const wait = { timeout: 60_000, interval: 50 };

let folder: string;
let configFile: string;
let postgres: Awaited<ReturnType<typeof createTestDatabase>>;
let client: pg.Client;
/** Writes to the table of the index, so that a concurrent build waits for its end. */
let writer: pg.Client;
beforeAll(async () => {
  postgres = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), "migrate-"));
  configFile = join(folder, "routes.yaml");
  const free = async () => `127.0.0.1:${await freePort()}`;
  const config = {
    issuer: "https://mcp.example.com",
    sign_in: { providers: [{ issuer: "https://id.example.com", client_id: "c" }] },
    policy: [{ allow: { and: [{ authenticated_user: true }] } }],
    routes: [{ from: "https://mcp.example.com/notes", to: "http://127.0.0.1:1", mcp: { server: {} } }],
    listen: { grpc: await free(), http: await free(), admin: await free(), envoy_secret: "x".repeat(44) },
  };
  writeFileSync(configFile, JSON.stringify(config), { mode: 0o600 });
  [client, writer] = [
    new pg.Client({ connectionString: postgres.url }),
    new pg.Client({ connectionString: postgres.url }),
  ];
  await Promise.all([client.connect(), writer.connect()]);
});
afterAll(async () => {
  await Promise.all([client?.end(), writer?.end()]);
  await postgres?.close();
  await rm(folder, { recursive: true, force: true });
});

const key = randomBytes(32).toString("base64url");
const environment = () => ({ DATABASE_URL: postgres.url, ENCRYPTION_KEY: key });
/** A build that waits, or first removes what an interrupted one has left. */
const building = async () =>
  (
    await client.query(
      "select 1 from pg_stat_activity where datname = current_database() and state = 'active' and query like '% index concurrently %' and pid <> pg_backend_pid()",
    )
  ).rows.length;
function start(...args: string[]) {
  const child = spawn(process.execPath, [programFile, ...args, "--config", configFile], {
    env: { ...process.env, ...environment() },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = Promise.all([text(child.stdout), text(child.stderr)]);
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  return { child, end: async () => ({ code: await ended, said: (await said).join("") }) };
}

it.runIf(name)(
  "serve is ready while an index is being built, migrate does not repeat the work, and Ctrl-C ends a build",
  async () => {
    const table = /on (\w+)/.exec(definition ?? "")?.[1] ?? "";
    await client.query(`drop index "${name}"`);
    await writer.query(`begin; lock table ${table} in row exclusive mode`);

    const migrating = start("migrate");
    await expect.poll(building, wait).toBe(1);
    migrating.child.kill("SIGINT");
    const interrupted = await migrating.end();
    expect(interrupted.code).toBe(1);
    expect(interrupted.said).toMatch(/building index .+\n.*interrupted; the database can be used/);
    expect(await building()).toBe(0);

    const logFile = join(folder, "serve.log");
    const serving = await sidecar({ configFile, logFile, env: environment() });
    try {
      await expect.poll(building, wait).toBe(1);
      expect(await start("migrate").end()).toMatchObject({
        code: 0,
        said: expect.stringContaining("another process is building the indexes"),
      });
      await writer.query("rollback");
      const valid = async () =>
        (
          await client.query(
            `select indisvalid from pg_index join pg_class on oid = indexrelid where relname = '${name}'`,
          )
        ).rows;
      await expect.poll(valid, wait).toEqual([{ indisvalid: true }]);
    } finally {
      await serving.close();
    }
    expect(await start("migrate", "--skip-indexes").end()).toEqual({
      code: 0,
      said: "the database is up to date\n",
    });
  },
);

it("Ctrl-C ends rotate-keys after its batch, with what to do; run again, it continues", async () => {
  const keys = await loadKeyEncryptionKeys([{ kid: "default", env: "ENCRYPTION_KEY" }], {
    env: environment(),
    fetch,
  });
  const store = await openStore({ url: postgres.url, dir: "/nonexistent", keys, logger });
  await store.upstreamTokens.put(upstreamToken(), audit("upstream_token.obtained"));
  await store.close();
  // The batch waits for a row.
  await writer.query("begin; select from upstream_token for update");
  const rotating = start("rotate-keys");
  const waiting = async () =>
    (
      await client.query(
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      )
    ).rows.length;
  await expect.poll(waiting, wait).toBe(1);
  rotating.child.kill("SIGINT");
  const { code, said } = await rotating.end();
  expect(code).toBe(1);
  expect(said).toContain(
    "interrupted; run rotate-keys again to continue; keep the older keys until rotate-keys has finished\n",
  );
  await writer.query("rollback");
  expect(await start("rotate-keys").end()).toEqual({
    code: 0,
    said: "0 rows re-encrypted with default, the first key of encryption.keys\n",
  });
});
