import { decodeJwt } from "jose";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browser as launch } from "../../../dev/demo/browser.ts";
import { type McpClient, mcpClient } from "../../../dev/demo/mcp-client.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { rejectedWithinASecond } from "../../support/rejected-within-a-second.ts";
import { loginsOfAlice, passForeignPages } from "./walk.ts";

const portal = "https://auth.test/.pomerium/routes";

describe("the portal, without JavaScript, through Envoy", () => {
  let stack: E2e;
  let chromium: Browser;
  let context: BrowserContext;
  let page: Page;
  let client: McpClient;

  beforeAll(async () => {
    stack = await startE2e();
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
    context = await chromium.newContext({ javaScriptEnabled: false });
    page = await context.newPage();
    page.setDefaultTimeout(60_000);
    client = await mcpClient({
      url: stack.urls.open,
      fetch: stack.fetch,
      name: "Desk app",
      browse: async (location) => {
        await page.goto(location.href);
        await passForeignPages(page, loginsOfAlice(stack));
        await page.getByRole("button", { name: "Allow" }).click();
        await page.waitForURL((url) => url.pathname === "/callback");
      },
    });
    await client.connect();
  });
  afterAll(async () => {
    await client?.close();
    await chromium?.close();
    await stack?.close();
  });

  const row = (name: string) => page.locator("li", { has: page.getByRole("heading", { name }) });
  const ping = (url: string, token: string) =>
    stack.fetch(url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        authorization: `Bearer ${token}`,
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
    });
  /** Presses Tab until the element called `name` has the focus. */
  async function tabTo(name: string): Promise<void> {
    for (let presses = 0; presses < 30; presses++) {
      await page.keyboard.press("Tab");
      const focused = await page.evaluate(() => {
        const { outlineStyle } = getComputedStyle(document.activeElement ?? document.body);
        return { text: document.activeElement?.textContent?.replace(/\s+/g, " ").trim(), outlineStyle };
      });
      if (focused.text !== name) continue;
      expect(focused.outlineStyle).toBe("solid");
      return;
    }
    throw new Error(`the Tab key does not reach "${name}"`);
  }

  test("all hosts redirect to it, and it shows each server's state and each application", async () => {
    for (const url of [
      "https://open.test/.pomerium/routes",
      "https://everything.test/.pomerium",
      "https://auth.test/.pomerium/",
    ]) {
      await page.goto(url);
      expect(page.url(), url).toBe(portal);
    }
    expect(await row("Everything").locator(".tag").textContent()).toBe("Not connected");
    expect(await row("Open").locator(".tag").textContent()).toBe("Ready to use");
    expect(await row("Desk app").textContent()).toMatch(
      /Not verified.*May use Open.*Allowed.*Last active.*Expires/s,
    );
  });

  test("it shows users the e-mail address and groups that the gateway knows", async () => {
    const known = async () => {
      await page.goto(portal);
      const rows = await page.locator("#known ~ dl > div").allTextContents();
      return rows.map((text) => text.trim()).join("\n");
    };
    expect(await known()).toMatch(
      /User idcompany\/alice\nE-mailalice@example\.com\nGroupsengineeringeveryone\nAs of/,
    );
  });

  test("by keyboard only: connect and disconnect, with the result announced to screen readers", async () => {
    await page.goto(portal);
    await tabTo("Connect Everything");
    await page.keyboard.press("Enter");
    await page.waitForURL((url) => url.origin === stack.upstream.issuer);
    await passForeignPages(page, loginsOfAlice(stack));
    expect(new URL(page.url()).pathname).toBe("/.pomerium/routes");
    expect(await page.getByRole("status").textContent()).toBe("Everything is connected.");
    expect(await row("Everything").textContent()).toMatch(/Connected.*Last used.*Expires/s);

    await tabTo("Disconnect Everything");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Connect Everything", exact: true }).waitFor();
    expect(await page.getByRole("status").textContent()).toContain("Everything is disconnected");
    for (const token of stack.upstream.issuedTokens())
      expect(await stack.upstream.verify(token, stack.everything.url)).toBeUndefined();
  });

  test("no text of the URL appears on the page", async () => {
    await page.goto(`${portal}?connected=open&connect_error=evil&connect_error_description=Call+0900-EVIL`);
    expect(await page.locator("main").textContent()).not.toMatch(/evil/i);
    await page.goto(`${portal}?connected=everything`);
    expect(await page.getByRole("status").count()).toBe(0);
  });

  test("a form without this session's token changes nothing", async () => {
    for (const path of ["connect", "disconnect", "revoke"]) {
      await page.goto(portal);
      await page.evaluate((action) => {
        const form = document.querySelector("form");
        if (!form) throw new Error("no form");
        form.action = action;
        for (const field of form.querySelectorAll("input"))
          if (field.name === "csrf") field.value = "A".repeat(43);
        form.submit();
      }, `${portal}/${path}`);
      await page.getByRole("heading", { name: "Nothing was changed" }).waitFor();
    }
    await page.goto(portal);
    expect(await row("Desk app").count()).toBe(1);
  });

  test("revoking an application invalidates its tokens immediately, and only those", async () => {
    const token = client.tokens()?.access_token ?? "";
    const other = await stack.externalToken("bob", stack.urls.open);
    expect(decodeJwt(token).sub).toBe("company/alice");
    expect((await ping(stack.urls.open, token)).status).toBe(200);
    await page.goto(portal);
    await page.getByRole("button", { name: "Revoke access of Desk app" }).click();
    await page.getByRole("status").waitFor();
    expect(await row("Desk app").count()).toBe(0);
    await rejectedWithinASecond(() => ping(stack.urls.open, token));
    expect((await ping(stack.urls.open, other)).status).toBe(200);
  });

  test("a page of the same host can list and disconnect with the session cookie; pages of other origins cannot", async () => {
    const scripted = await chromium.newContext();
    const tab = await scripted.newPage();
    await tab.goto(portal);
    await passForeignPages(tab, loginsOfAlice(stack));
    interface Call {
      method?: string;
      headers?: Record<string, string>;
      body?: string;
    }
    const call = (path: string, init: Call = {}) =>
      tab.evaluate(
        async ([url, options]) => {
          const response = await fetch(url, options);
          return { status: response.status, body: await response.json() };
        },
        [path, init] as const,
      );
    const names = ({ body }: { body: { servers: { name: string }[] } }) =>
      body.servers.map(({ name }) => name);
    // The portal's policy allows no scripts: a page without a policy stands in for an application's.
    await tab.goto("https://auth.test/.well-known/oauth-authorization-server");
    expect(names(await call("/.pomerium/mcp/routes"))).toEqual(["Everything", "Open"]);
    const json = { "content-type": "application/json" };
    const give = (body: string, headers: Record<string, string> = json) =>
      call("/.pomerium/mcp/routes/disconnect", { method: "POST", headers, body });
    expect(names(await give('{"routes":["https://everything.test"]}'))).toEqual(["Everything", "Open"]);
    expect(await give('{"routes":["https://nowhere.test"]}')).toMatchObject({
      status: 400,
      body: { error: "unknown_route" },
    });
    expect(await give("{")).toMatchObject({ status: 400, body: { error: "invalid_request" } });
    expect((await give('{"routes":["open"]}', { "content-type": "text/plain" })).status).toBe(415);
    const cookies = await scripted.cookies("https://auth.test");
    const session = cookies.find(({ name }) => name === "__Host-mcp_session");
    const forged = await stack.fetch("https://auth.test/.pomerium/mcp/routes/disconnect", {
      method: "POST",
      headers: { ...json, cookie: `${session?.name}=${session?.value}`, "sec-fetch-site": "same-site" },
      body: '{"routes":["everything"]}',
    });
    expect(forged.status).toBe(403);
    const nobody = await stack.fetch("https://auth.test/.pomerium/mcp/routes");
    expect(nobody.status).toBe(401);
    expect(nobody.headers.get("www-authenticate")).toContain('error="invalid_token"');
    expect(await nobody.json()).toMatchObject({
      error: "invalid_token",
      error_description: "Unauthorized: sign in, or send an access token",
    });
    await scripted.close();
  });

  test("a signed-out user who opens the list in the address bar gets a page, not JSON", async () => {
    const signedOut = await chromium.newContext();
    const tab = await signedOut.newPage();
    const response = await tab.goto("https://auth.test/.pomerium/mcp/routes");
    expect(response?.status()).toBe(401);
    expect(response?.headers()["content-type"]).toContain("text/html");
    expect(await tab.textContent("main")).toContain("sign in, or send an access token");
    await signedOut.close();
  });

  test("an MCP client's token lists only its own server", async () => {
    const token = await stack.externalToken("bob", stack.urls.open);
    const response = await stack.fetch("https://everything.test/.pomerium/mcp/routes", {
      headers: { authorization: `Bearer ${token}` },
    });
    expect((await response.json()).servers.map(({ name }: { name: string }) => name)).toEqual(["Open"]);
    const preflight = await stack.fetch("https://everything.test/.pomerium/mcp/routes/disconnect", {
      method: "OPTIONS",
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-methods")).toContain("POST");
  });
});
