import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type E2e, startE2e } from "../../support/e2e.ts";

/*
 * After a whole flow with two users, including refreshes: no token, code or secret is in clear text in the
 * database or in the logs at the most verbose level.
 */
let e2e: E2e;
let secrets: Map<string, string>;

beforeAll(async () => {
  e2e = await startE2e({
    database: "embedded",
    // Short, so that the flow includes a refresh, but long enough for the client's first concurrent requests.
    upstream: { accessTokenTtl: 3 },
    config: (config) => ({ ...config, log: { level: "trace" } }),
  });
  secrets = new Map();
  for (const user of ["alice", "bob"] as const) {
    const client = await e2e.client(user);
    const session = await client.connect();
    const refreshes = () => e2e.upstream.counts.tokens.refresh_token ?? 0;
    const before = refreshes();
    while (refreshes() === before) await session.callTool({ name: "whoami" });
    const tokens = client.tokens();
    secrets.set(`${user}'s external token`, tokens?.access_token ?? "");
    secrets.set(`${user}'s refresh token`, tokens?.refresh_token ?? "");
    const cookies = await e2e.browser(user).jar.getCookies(e2e.urls.issuer);
    for (const { key, value } of cookies) secrets.set(`${user}'s cookie ${key}`, value);
  }
  for (const [index, token] of e2e.upstream.issuedTokens().entries()) secrets.set(`upstream ${index}`, token);
  for (const [index, token] of e2e.openid.issuedTokens().entries()) secrets.set(`company ${index}`, token);
  for (const [index, code] of e2e.upstream.issuedCodes().entries())
    secrets.set(`upstream code ${index}`, code);
  for (const [index, code] of e2e.openid.issuedCodes().entries()) secrets.set(`company code ${index}`, code);
  const config = await readFile(e2e.configFile, "utf8");
  for (const [index, [, secret]] of [...config.matchAll(/client_secret: (\S+)/g)].entries()) {
    secrets.set(`client secret ${index}`, secret ?? "");
  }
  expect([...secrets.values()].every((secret) => secret.length > 20)).toBe(true);
});
afterAll(() => e2e?.close());

/** Names of the secrets in `text`, as text or as the bytes in a dump. */
function found(text: string): string[] {
  return [...secrets]
    .filter(([, secret]) => [secret, Buffer.from(secret).toString("hex")].some((form) => text.includes(form)))
    .map(([name]) => name);
}

test("a dump of the database has no token in clear text", async () => {
  await e2e.sidecar().close();
  const database = new PGlite(join(e2e.configFile, "../data/database"));
  const { rows: tables } = await database.query<{ name: string }>(
    "select quote_ident(table_schema) || '.' || quote_ident(table_name) as name from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema')",
  );
  let dump = "";
  for (const { name } of tables) {
    const { rows } = await database.query<{ row: string }>(`select t::text as row from ${name} t`);
    dump += rows.map(({ row }) => row).join("\n");
  }
  await database.close();
  expect(dump, "the dump is of the right database").toContain("company/alice");
  expect(found(dump)).toEqual([]);
});

test("the logs at the most verbose level have no token in clear text", async () => {
  const log = await readFile(e2e.sidecar().logFile, "utf8");
  expect(log, "the log is of this flow").toContain("company/alice");
  expect(found(log)).toEqual([]);
  expect(found(await readFile(e2e.envoy.logFile, "utf8")), "Envoy's access log").toEqual([]);
});
