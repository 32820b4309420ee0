import crypto from "node:crypto";
import { syncBuiltinESMExports } from "node:module";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { tokenActor } from "../../src/admin/access.ts";
import { registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";

/*
 * A test cannot measure how long a comparison takes, but it can check which function makes it. Handles that are looked up
 * (sessions, codes, refresh tokens, states) are hashed: test/store/encryption-at-rest.test.ts.
 */
let compared = 0;
const { timingSafeEqual } = crypto;
let stack: AuthorizationServerStack;
beforeAll(async () => {
  crypto.timingSafeEqual = (one, other) => {
    compared += 1;
    return timingSafeEqual(one, other);
  };
  syncBuiltinESMExports();
  stack = await startAuthorizationServer(`authorization_server:
  clients:
    - {client_id: known, client_secret: known-secret, redirect_uris: ["http://localhost/client-callback"]}
`);
});
afterAll(async () => {
  await stack.close();
  crypto.timingSafeEqual = timingSafeEqual;
  syncBuiltinESMExports();
});
beforeEach(() => {
  compared = 0;
});

test("a client's secret is compared in constant time", async () => {
  const body = new URLSearchParams({ client_id: "known", client_secret: "known-secreT", grant_type: "x" });
  const url = "https://auth.test/oauth/token";
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const answer = await stack.fetch(url, { method: "POST", headers, body: body.toString() });
  expect(answer.status).toBe(401);
  expect(compared).toBeGreaterThan(0);
});

test("a form's token is compared in constant time", async () => {
  const browser = stack.browser();
  await (await registeredApp(stack)).tokens(browser, "alice");
  const page = await browser.open("https://auth.test/.pomerium/sign_out");
  compared = 0;
  expect(await browser.submit(page, { csrf: "A".repeat(43) })).toMatchObject({ status: 403 });
  expect(compared).toBe(1);
});

test.each([
  ["", undefined],
  ["Bearer", undefined],
  [`Bearer ${"b".repeat(32)}`, undefined],
  [`Bearer ${"a".repeat(32)}`, "admin"],
])("the admin API compares %j with every token, in constant time", (authorization, role) => {
  const named = (...names: string[]) => names.map((name) => ({ name, token: name.repeat(32) }));
  const tokens = { adminTokens: named("a", "c"), viewerTokens: named("d") };
  expect(tokenActor(authorization, () => tokens)?.role).toBe(role);
  expect(compared).toBe(3);
});
