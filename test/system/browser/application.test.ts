import { once } from "node:events";
import type { IncomingHttpHeaders, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { decodeJwt } from "jose";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browser as launch } from "../../../dev/demo/browser.ts";
import { exampleApplication } from "../../../examples/application.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { rejectedWithinASecond } from "../../support/rejected-within-a-second.ts";
import { throughEnvoy } from "../../support/through-envoy.ts";
import { agreeToConnect, type Logins, loginsOfAlice, loginsOfBob, passForeignPages } from "./walk.ts";

const app = "https://app.test/";
const initialize = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "raw", version: "1" } },
});

describe("docs/applications.md: the example application, through Envoy, in a real browser", () => {
  let application: Server;
  const arrived: IncomingHttpHeaders[] = [];
  let stack: E2e;
  let chromium: Browser;
  let alice: { context: BrowserContext; page: Page };
  let bob: { context: BrowserContext; page: Page };

  beforeAll(async () => {
    application = exampleApplication({ publicUrl: app, fetch: (...args) => stack.fetch(...args) });
    application.prependListener("request", ({ headers }) => arrived.push(headers));
    application.listen(0, "127.0.0.1");
    await once(application, "listening");
    const { port } = application.address() as AddressInfo;
    stack = await startE2e({
      names: ["app.test"],
      config: (config) => ({
        ...config,
        routes: [
          ...config.routes.map((route) =>
            route.id === "everything"
              ? {
                  ...route,
                  policy: { allow: { and: [{ email: "alice@example.com" }] } },
                  tools: { deny: ["write_note"] },
                }
              : {
                  ...route,
                  policy: [
                    { allow: { and: [{ authenticated_user: true }] } },
                    { deny: { and: [{ mcp_tool: "headers" }, { email: "bob@example.com" }] } },
                  ],
                },
          ),
          {
            id: "app",
            name: "Example application",
            from: "https://app.test",
            to: `http://127.0.0.1:${port}`,
            mcp: { client: {} },
          },
        ],
      }),
    });
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
    alice = await somebody();
    bob = await somebody();
  });
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
    application?.close();
    application?.closeAllConnections();
  });

  async function somebody() {
    const context = await chromium.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    return { context, page };
  }
  async function open(page: Page, logins: Logins): Promise<void> {
    await page.goto(app);
    await passForeignPages(page, logins);
    expect(page.url()).toBe(app);
  }
  const tokenSeen = () => arrived.at(-1)?.authorization?.replace("Bearer ", "") ?? "";
  const state = (page: Page, server: string) =>
    page.locator("li", { has: page.getByRole("heading", { name: server }) }).locator("p");
  const listed = (page: Page) => page.getByRole("heading", { level: 2 }).allTextContents();
  const callWith = (token: string, url = stack.urls.open) =>
    throughEnvoy(stack, {
      url: `${url}/`,
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        authorization: `Bearer ${token}`,
      },
      body: initialize,
    });
  const list = async (token: string) => {
    const response = await stack.fetch(`${app}.pomerium/mcp/routes`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return { response, servers: (await response.json()).servers };
  };

  test("the user signs in on first access; the application learns who the user is and gets a token", async () => {
    await open(alice.page, loginsOfAlice(stack));
    const claims = decodeJwt(tokenSeen());
    // The assertion identifies the user, and so does the token.
    expect(claims).not.toHaveProperty("email");
    expect(claims).toMatchObject({
      sub: "company/alice",
      aud: ["https://everything.test", "https://open.test"],
      client_id: "https://app.test",
    });
    expect(decodeJwt(String(arrived.at(-1)?.["x-pomerium-jwt-assertion"]))).toMatchObject({
      sub: "company/alice",
      aud: ["https://app.test", "app.test"],
    });
    expect(arrived.at(-1)?.cookie ?? "").not.toContain("__Host-mcp");
    // The application has verified the assertion with the published keys.
    expect(await alice.page.getByText(/^Signed in as/).textContent()).toBe("Signed in as Alice Liddell");
  });

  test("the application lists its user's servers, and which of them are not connected", async () => {
    expect(await listed(alice.page)).toEqual(["Everything", "Open"]);
    expect(await state(alice.page, "Everything").textContent()).toBe("not connected");
    expect(await state(alice.page, "Open").textContent()).toBe("connected");
    const { response, servers } = await list(tokenSeen());
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(servers).toEqual([
      {
        name: "Everything",
        description: "An MCP server that requires a token of its own authorization server",
        url: "https://everything.test",
        connected: false,
        needs_oauth: true,
        auth_connected: false,
      },
      {
        name: "Open",
        description: "An MCP server that asks nobody for a token",
        url: "https://open.test",
        connected: true,
        needs_oauth: false,
        auth_connected: null,
      },
    ]);
  });

  test("a user who denies at the upstream returns with an error and is not connected", async () => {
    await alice.page.getByRole("link", { name: "Connect Everything" }).click();
    await agreeToConnect(alice.page);
    await passForeignPages(alice.page, loginsOfAlice(stack), "deny");
    expect(new URL(alice.page.url()).searchParams.get("connect_error")).toBe("access_denied");
    expect(await alice.page.getByRole("status").textContent()).toContain("access_denied");
    expect(await state(alice.page, "Everything").textContent()).toBe("not connected");
  });

  test("a user who allows returns connected", async () => {
    await alice.page.getByRole("link", { name: "Connect Everything" }).click();
    await agreeToConnect(alice.page);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    expect(alice.page.url()).toBe(app);
    expect(await state(alice.page, "Everything").textContent()).toBe("connected");
  });

  test("the application calls the tool with an MCP SDK client, as its user, at the server", async () => {
    await alice.page.getByRole("button", { name: "Tools of Everything" }).click();
    expect(await alice.page.locator("pre").textContent()).toContain("ally");
    // This server answers with an event stream, the other one with JSON.
    const tools = await alice.page.locator("li").allTextContents();
    expect(tools).toContain("whoami");
    expect(tools).not.toContain("write_note");
    const reached = stack.everything.requests.at(-1)?.headers.map(([, value]) => value) ?? [];
    expect(reached).not.toContain(`Bearer ${tokenSeen()}`);
  });

  test("a user whom policy denies sees neither the route nor its tools", async () => {
    await open(bob.page, loginsOfBob(stack));
    expect(await listed(bob.page)).toEqual(["Open"]);
    expect(decodeJwt(tokenSeen()).aud).toEqual(["https://open.test"]);
    expect((await callWith(tokenSeen(), stack.urls.everything)).status).toBe(401);
    await bob.page.getByRole("button", { name: "Tools of Open" }).click();
    expect(await bob.page.locator("li").allTextContents()).toEqual(["greet"]);
    await bob.page.goto(
      `https://everything.test/.pomerium/mcp/connect?redirect_url=${encodeURIComponent(app)}`,
    );
    expect(new URL(bob.page.url()).searchParams.get("connect_error")).toBe("access_denied");
    await alice.page.goto(`${app}tools?server=https://open.test`);
    expect(await alice.page.locator("li").allTextContents()).toEqual(["greet", "headers"]);
  });

  test("after the upstream has rejected a token, the server is no longer connected", async () => {
    await stack.upstream.revokeGrants("ally");
    const refused = await alice.page.goto(`${app}tools?server=https://everything.test`);
    expect(refused?.status()).toBe(502);
    await alice.page.goto(app);
    expect(await state(alice.page, "Everything").textContent()).toBe("not connected");
    await alice.page.getByRole("link", { name: "Connect Everything" }).click();
    await agreeToConnect(alice.page);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    expect(await state(alice.page, "Everything").textContent()).toBe("connected");
  });

  test("disconnecting revokes the token at the upstream and deletes it", async () => {
    await alice.page.goto(`${app}tools?server=https://everything.test`);
    const used = stack.everything.requests.at(-1)?.headers.find(([name]) => /^authorization$/i.test(name));
    const before = used?.[1].replace("Bearer ", "") ?? "";
    await alice.page.goto(app);
    expect(await stack.upstream.verify(before, stack.everything.url)).toBeTruthy();
    await alice.page.getByRole("button", { name: "Disconnect Everything" }).click();
    await alice.page.getByRole("link", { name: "Connect Everything" }).waitFor();
    expect(await state(alice.page, "Everything").textContent()).toBe("not connected");
    expect(await stack.upstream.verify(before, stack.everything.url)).toBeFalsy();
    expect((await callWith(tokenSeen(), stack.urls.everything)).status).toBe(401);
  });

  test("in a pop-up, the last page notifies its opener, at the opener's origin, and closes", async () => {
    const opened = alice.context.waitForEvent("page");
    const told = alice.page.evaluate(
      (back) =>
        new Promise<{ origin: string; data: unknown }>((resolve) => {
          window.addEventListener("message", ({ origin, data }) => resolve({ origin, data }), { once: true });
          const query = new URLSearchParams({ popup: "1", redirect_url: back });
          window.open(`https://everything.test/.pomerium/mcp/connect?${query}`, "connect", "popup");
        }),
      app,
    );
    const popup = await opened;
    const closed = popup.waitForEvent("close");
    await agreeToConnect(popup);
    await popup.waitForURL((url) => url.origin === stack.upstream.issuer);
    await passForeignPages(popup, loginsOfAlice(stack)).catch((error: Error) => {
      // It may close before its load event arrives.
      if (!popup.isClosed()) throw error;
    });
    expect(await told).toEqual({
      origin: "https://everything.test",
      data: { type: "mcp_connect", route: "everything", connected: true },
    });
    await closed;
  });

  test("signing out invalidates the application's token immediately, and the next visit starts with sign-in", async () => {
    await alice.page.goto(app);
    const token = tokenSeen();
    expect((await callWith(token)).status).toBe(200);
    await alice.page.goto("https://app.test/.pomerium/sign_out");
    await alice.page.getByRole("button", { name: "Sign out" }).click();
    await rejectedWithinASecond(() => callWith(token));
    expect((await list(token)).response.status).toBe(401);
    const requested: string[] = [];
    alice.page.on("request", (request) => requested.push(request.url()));
    await alice.page.goto(app);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    expect(requested[1]).toContain("/.pomerium/sign_in");
    expect(tokenSeen()).not.toBe(token);
    expect((await callWith(token)).status).toBe(401);
  });
});
