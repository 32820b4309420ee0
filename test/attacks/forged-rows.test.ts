import { decodeJwt } from "jose";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

/** The attacker can run any SQL but has no key. The sidecar then restarts, so that nothing is cached in memory. */

const portal = "https://auth.test/.pomerium/routes";
const initialize = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "ci", version: "1" } },
});

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let sql: pg.Client;
let stack: E2e;
let bob: string;
let machine: string;
let spent: { readonly refreshToken: string; readonly clientId: string };

beforeAll(async () => {
  database = await createTestDatabase();
  stack = await startE2e({ env: { DATABASE_URL: database.url } });
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
  await stack.externalToken("alice");
  bob = await stack.externalToken("bob");
  machine = (
    await stack.command(
      "service-accounts",
      "create",
      "ci",
      "--route",
      "everything",
      "--owner",
      "company/alice",
    )
  ).trim();
  const client = await stack.client("bob", stack.urls.open);
  await client.connect();
  const { refresh_token: refreshToken = "", access_token = "" } = client.tokens() ?? {};
  spent = { refreshToken, clientId: String(decodeJwt(access_token).client_id) };
  expect((await refresh()).status).toBe(200);
  // Everything is valid before the attack.
  expect((await call(bob)).status).toBe(200);
  expect((await call(machine)).status).toBe(403);
  expect((await portalOf("bob")).html).toContain("bob@example.com");

  await forge(
    "update browser_session set user_id = 'company/alice' where user_id = 'company/bob'",
    "update authorization_server_record set consumed_at = null where model = 'RefreshToken' and consumed_at is not null",
    "update delegation set delegated_at = now(), upstream = (select upstream from upstream_token limit 1) where delegated_at is null",
    "delete from upstream_token where user_id = 'company/bob'",
    "create temp table copied as select * from upstream_token where user_id = 'company/alice'",
    "update copied set user_id = 'company/bob'",
    "insert into upstream_token select * from copied",
  );
  await stack.restartSidecar();
});
afterAll(async () => {
  await stack?.close();
  await sql?.end();
  await database?.close();
});

/** Runs each statement and requires that it changes a row. */
async function forge(...statements: readonly string[]): Promise<void> {
  for (const statement of statements)
    expect((await sql.query(statement)).rowCount, statement).toBeGreaterThan(0);
}

const call = (token: string) =>
  throughEnvoy(stack, {
    url: stack.urls.everything,
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      authorization: `Bearer ${token}`,
    },
    body: initialize,
  });
const portalOf = (user: "alice" | "bob") => stack.browser(user).open(portal);
const refresh = () =>
  stack.fetch(`${stack.urls.issuer}/oauth/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "refresh_token",
      refresh_token: spent.refreshToken,
      client_id: spent.clientId,
    }),
  });

test("a session that SQL has assigned to another person does not authenticate", async () => {
  const page = await portalOf("bob");
  expect(page.html).not.toContain("alice@example.com");
  expect(page.html).toContain("bob@example.com");
});

test("a used refresh token stays used after SQL has removed its mark", async () => {
  const answer = await refresh();
  expect([answer.status, Object(await answer.json()).error]).toEqual([400, "invalid_grant"]);
});

test("a delegation that SQL has given on the owner's behalf is not valid", async () => {
  const asked = stack.everything.requests.length;
  expect((await call(machine)).status).toBe(403);
  expect(stack.everything.requests).toHaveLength(asked);
});

test("an upstream token that SQL has copied to another person is not used", async () => {
  const asked = stack.everything.requests.length;
  expect((await call(bob)).status).toBe(401);
  expect(stack.everything.requests).toHaveLength(asked);
});
