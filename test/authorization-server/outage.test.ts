import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type McpApp, registeredApp, type Tokens } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
let app: McpApp;
let tokens: Tokens;
beforeAll(async () => {
  stack = await startAuthorizationServer("", { interruptible: true });
  app = await registeredApp(stack);
});
afterAll(() => stack.close());
beforeEach(async () => {
  await stack.databaseProxy.restore();
  await stack.store.ping();
  tokens = await app.tokens(stack.browser(), "alice");
});

test("while the database is down, client endpoints answer 503 as JSON, and no token is lost", async () => {
  await stack.databaseProxy.cut();
  const { code_verifier, ...authorizationCode } = {
    grant_type: "authorization_code",
    code: "x",
    redirect_uri: app.redirectUri,
    client_id: app.clientId,
    code_verifier: "v".repeat(43),
  };
  const requests = [
    app.refresh(tokens.refresh_token),
    app.post("/oauth/token", { ...authorizationCode, code_verifier }),
    app.post("/oauth/introspect", { token: tokens.refresh_token, client_id: app.clientId }),
    app.post("/oauth/revoke", { token: tokens.refresh_token, client_id: app.clientId }),
    stack.fetch("https://auth.test/oauth/register", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ redirect_uris: ["https://app.test/cb"] }),
    }),
  ];
  for (const response of await Promise.all(requests)) {
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBeTruthy();
    expect(await response.json()).toMatchObject({ error: "temporarily_unavailable" });
  }
  await stack.databaseProxy.restore();
  await expect.poll(() => app.refresh(tokens.refresh_token).then(({ status }) => status)).toBe(200);
});

test("a browser gets a page, and the metadata documents are still served", async () => {
  await stack.databaseProxy.cut();
  const page = await stack.browser().open(app.request().url);
  expect(page.status).toBe(503);
  expect(page.html).toContain("Request id");
  expect(page.html).not.toContain("at async");
  const metadata = await stack.fetch("https://auth.test/.well-known/oauth-authorization-server");
  expect(metadata.status).toBe(200);
});
