import { afterAll, beforeAll, expect, test } from "vitest";
import { onTheWeb, registeredApp } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer();
});
afterAll(() => stack.close());

test("the audit trail has each step from sign-in to sign-out once", async () => {
  const app = await registeredApp(stack, onTheWeb);
  const browser = stack.browser();
  const tokens = await app.tokens(browser, "alice");
  expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  // A remembered consent: another grant, without a page.
  await app.tokens(browser, "alice");
  await browser.submit(await browser.open("https://auth.test/.pomerium/sign_out"), {});

  const trail = await stack.store.auditEvents({ limit: 100 });
  const told = { userId: "company/alice", clientId: app.clientId, routeId: "one" };
  const detail = { client_name: "Test app" };
  const [first, second] = (await stack.store.authorizationServerRecords.grants({ userId: told.userId })).map(
    ({ grantId }) => grantId,
  );
  expect(trail.map(({ id: _id, at: _at, ...event }) => event)).toEqual([
    expect.objectContaining({
      action: "person.signed_in",
      userId: "company/alice",
      issuer: stack.company.issuer,
    }),
    expect.objectContaining({ action: "grant.created", grantId: first, ...told, detail }),
    expect.objectContaining({ action: "external_token.issued", grantId: first, ...told }),
    expect.objectContaining({ action: "external_token.issued", grantId: first, ...told }),
    expect.objectContaining({ action: "grant.created", grantId: second, ...told, detail }),
    expect.objectContaining({ action: "external_token.issued", grantId: second, ...told }),
    expect.objectContaining({ action: "person.signed_out", userId: "company/alice" }),
  ]);
});
