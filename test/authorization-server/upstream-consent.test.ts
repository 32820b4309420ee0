import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { HttpBrowser, Page } from "../support/http-browser.ts";
import { type McpApp, onTheWeb, registeredApp, throughCompany } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
let app: McpApp;
let browser: HttpBrowser;
beforeAll(async () => {
  stack = await startAuthorizationServer();
});
afterAll(() => stack.close());
beforeEach(async () => {
  app = await registeredApp(stack, onTheWeb);
  browser = stack.browser();
  stack.connections.set("company/alice one", "missing");
});

describe("a route whose upstream requires the user's consent", () => {
  test("gets it in the same authorization flow, after our own consent", async () => {
    stack.connectOutcome = "connects";
    const { url } = app.request();
    const consent = await throughCompany(stack, browser, await browser.open(url), "alice");
    expect(consent.html).toContain("upstream.test:8080");
    const end = await browser.submit(consent, {}, "decision=allow");
    expect(end.url.searchParams.get("code")).toBeTruthy();
    expect(stack.connections.get("company/alice one")).toBe("connected");
  });

  test.each([
    ["access_denied", "access_denied"],
    ["temporarily_unavailable", "temporarily_unavailable"],
    ["discovery_failed", "server_error"],
    ["<script>", "server_error"],
  ])("%s there is %s for the client, and leaves no grant behind", async (error, reported) => {
    stack.connectOutcome = { error };
    const { page, params } = await app.authorize(browser, "alice");
    expect(page.url.pathname).toBe("/client-callback");
    expect(params.get("error")).toBe(reported);
    expect(params.get("error_description")).not.toContain("<");
    expect(params.get("iss")).toBe("https://auth.test");
    const { authorizationServerRecords: records } = stack.store;
    expect(await records.grants({ userId: "company/alice", clientId: app.clientId })).toEqual([]);
  });

  test.each([
    [
      "rejected registration",
      {
        connect_error_reason: "registration_rejected",
        connect_error_server: "as.test",
        connect_error_status: "400",
        connect_error_upstream: "invalid_redirect_uri",
      },
      /rejected the registration of this gateway \(registration_rejected; as\.test answered 400 invalid_redirect_uri\); .*upstream_oauth2\.client_id/,
    ],
    [
      "error of the authorization page",
      {
        connect_error_reason: "authorization_rejected",
        connect_error_server: "as.test:8443",
        connect_error_upstream: "invalid_scope",
      },
      /\(authorization_rejected; as\.test:8443 answered invalid_scope\)/,
    ],
    [
      "fault of the route's upstream, whose host is not named,",
      {
        connect_error_reason: "server_error",
        connect_error_server: "upstream.test:8080",
        connect_error_status: "503",
      },
      /\(server_error; the server answered 503\)$/,
    ],
    [
      "made-up link",
      {
        connect_error_reason: "client_rejected",
        connect_error_server: "as.test/call-us",
        connect_error_status: "400 call us",
        connect_error_upstream: "call us",
      },
      /\(client_rejected\);/,
    ],
    [
      "sentence instead of a status and an error code",
      {
        connect_error_reason: "token_request_rejected",
        connect_error_server: "as.test",
        connect_error_status: "4000",
        connect_error_upstream: 'call "us"',
      },
      /\(token_request_rejected\);/,
    ],
  ])("a %s is explained to the client, in the gateway's words", async (_name, beside, description) => {
    stack.connectOutcome = { error: "server_error", beside };
    const { params } = await app.authorize(browser, "alice");
    expect(params.get("error")).toBe("server_error");
    expect(params.get("error_description")).toMatch(description);
    // RFC 6749 section 4.1.2.1.
    expect(params.get("error_description")).toMatch(/^[\x20\x21\x23-\x5b\x5d-\x7e]+$/);
  });

  test("an upstream that never returns what is needed does not cause a redirect loop", async () => {
    stack.connectOutcome = "nothing";
    const { params } = await app.authorize(browser, "alice");
    expect(params.get("error")).toBe("server_error");
  });

  test("a client that was allowed before only runs the missing step", async () => {
    stack.connectOutcome = "connects";
    const tokens = await app.tokens(browser, "alice");
    stack.connections.set("company/alice one", "missing");
    expect((await app.refresh(tokens.refresh_token)).status).toBe(400);
    const again = await browser.open(app.request().url);
    expect(again.url.searchParams.get("code")).toBeTruthy();
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("prompt=none is interaction_required", async () => {
    stack.connectOutcome = "connects";
    await app.tokens(browser, "alice");
    stack.connections.set("company/alice one", "missing");
    const page = await browser.open(app.request({ prompt: "none" }).url);
    expect(page.url.searchParams.get("error")).toBe("interaction_required");
  });

  test("two clients may run the flow at the same time", async () => {
    stack.connectOutcome = "connects";
    const other = await registeredApp(stack);
    stack.connections.set("company/alice many-a", "missing");
    const first = await throughCompany(stack, browser, await browser.open(app.request().url), "alice");
    const second = await browser.open(other.request({ resource: "https://many.test/a" }).url);
    const allow = (page: Page) => browser.submit(page, {}, "decision=allow");
    const ends = await Promise.all([allow(first), allow(second)]);
    for (const end of ends) expect(end.url.searchParams.get("code"), end.html).toBeTruthy();
  });
});
