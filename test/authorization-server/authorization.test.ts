import { decodeJwt, decodeProtectedHeader } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { registeredApp } from "./mcp-app.ts";
import { type House, startHouse } from "./start-house.ts";

let house: House;
beforeAll(async () => {
  house = await startHouse();
});
afterAll(() => house.close());

test("F2.1 F3.4 a registered client gets a TE for the resource after sign-in and consent", async () => {
  const app = await registeredApp(house);
  const tokens = await app.tokens(house.browser(), "alice", { scope: "tools:read tools:write" });
  expect(decodeProtectedHeader(tokens.access_token)).toMatchObject({ alg: "ES256", typ: "at+jwt" });
  expect(decodeJwt(tokens.access_token)).toMatchObject({
    iss: "https://auth.test",
    aud: "https://one.test",
    sub: "company/alice",
    client_id: app.clientId,
    scope: "tools:read tools:write",
    email: "alice@example.com",
    name: "Alice Liddell",
    groups: ["engineering", "everyone"],
    grant_id: expect.any(String),
    jti: expect.any(String),
  });
  expect(tokens).toMatchObject({ token_type: "Bearer", expires_in: 3600, refresh_token: expect.any(String) });
  expect(await house.externalTokens.identify(tokens.access_token)).toMatchObject({ ok: true });
});
