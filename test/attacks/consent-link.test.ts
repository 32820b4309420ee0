import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { consentHeader } from "../../src/config/header-names.ts";
import { type E2e, startE2e, type User } from "../support/e2e.ts";
import { throughEnvoy } from "../support/through-envoy.ts";
import { loginsOfAlice, loginsOfBob, passForeignPages } from "../system/browser/walk.ts";

/** What the MCP specification warns of: who opens a link is not who caused it (URL mode elicitation, "Phishing"). */
describe("a consent link in the wrong hands", () => {
  let stack: E2e;
  let chromium: Browser;
  const tokens = new Map<User, string>();
  const everything = "https://everything.test";

  beforeAll(async () => {
    stack = await startE2e({
      config: (config) => {
        const [route, ...others] = config.routes;
        const mcp = Object(route?.mcp);
        const asking = { ...route, mcp: { server: { ...mcp.server, consent: "elicitation" } } };
        return { ...config, routes: [asking, ...others] };
      },
    });
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
    for (const user of ["alice", "bob"] as const) tokens.set(user, await stack.externalToken(user));
    await stack.command("connections", "revoke", "--route", "everything");
  });
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
  });

  const post = (user: User, headers: Record<string, string> = {}, url = `${everything}/`) =>
    throughEnvoy(stack, {
      url,
      method: "POST",
      headers: {
        authorization: `Bearer ${tokens.get(user)}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
        "mcp-session-id": "s",
        ...headers,
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" }),
    });
  async function linkFor(user: User): Promise<string> {
    const { body } = await post(user);
    return JSON.parse(body).error.data.elicitations[0].url;
  }
  /** 404 is the upstream's answer to a session that it does not know. */
  const connected = async (user: User) => (await post(user)).status === 404;
  const heading = (page: Page) => page.getByRole("heading", { level: 1 }).textContent();
  async function openedBy(user: User, url: string): Promise<Page> {
    const context = await chromium.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(url);
    await passForeignPages(page, user === "alice" ? loginsOfAlice(stack) : loginsOfBob(stack));
    return page;
  }

  it("of somebody who is not signed in: after the sign-in, the link is rejected, and nothing is connected", async () => {
    const link = await linkFor("alice");
    const page = await openedBy("bob", link);
    expect(page.url()).toBe(link);
    expect(await heading(page)).toBe("Not connected");
    expect(await page.locator("main").innerText()).not.toMatch(/alice|Everything/);
    expect(await page.getByRole("button").count()).toBe(0);
    // Signed in now: the same.
    await page.goto(link);
    expect(await heading(page)).toBe("Not connected");
    expect([await connected("alice"), await connected("bob")]).toEqual([false, false]);
    await page.context().close();
  });

  it("that waits for its user: it cannot be pressed from elsewhere, and connects her own account when she agrees", async () => {
    const link = await linkFor("alice");
    const his = await openedBy("bob", await linkFor("bob"));
    expect(await heading(his)).toBe("Connect Everything as bob@example.com?");
    // With the form of his own page.
    await his.locator("form").evaluate((form, action) => form.setAttribute("action", action), link);
    await his.getByRole("button", { name: "Connect", exact: true }).click();
    await his.waitForURL(link);
    expect(await heading(his)).toBe("Not connected");
    await his.context().close();

    const hers = await openedBy("alice", link);
    const facts = await hers.locator("main").innerText();
    for (const fact of [
      "Connect Everything as alice@example.com?",
      "Demo MCP client",
      "alice@example.com",
      "127.0.0.1",
    ])
      expect(facts).toContain(fact);
    const pages: string[] = [];
    hers.on("framenavigated", (frame) => pages.push(new URL(frame.url()).pathname));
    await hers.getByRole("button", { name: "Connect", exact: true }).click();
    await hers.waitForURL((url) => url.origin === stack.upstream.issuer);
    // One confirmation is enough.
    expect(pages.filter((path) => path.endsWith("/connect/confirm"))).toEqual([]);
    await passForeignPages(hers, loginsOfAlice(stack));
    await hers.waitForURL((url) => url.pathname.endsWith("/mcp/consent/done"));
    expect(await hers.locator("main").innerText()).toContain(
      "Everything is connected. Go back to your application",
    );
    expect([await connected("alice"), await connected("bob")]).toEqual([true, false]);
    // Used.
    await hers.goto(link);
    expect(await heading(hers)).toBe("Not connected");
    await hers.context().close();
  });

  it("a client's own signed header does not get past Envoy, and the endpoint behind it serves nobody else", async () => {
    const forged = { [consentHeader]: "kid.1.n.e30.mac" };
    expect((await post("alice", forged)).status).toBe(404);
    expect(stack.everything.requests.at(-1)?.headers.map(([name]) => name.toLowerCase())).not.toContain(
      consentHeader,
    );
    expect((await post("alice", { ...forged, authorization: "Bearer x" })).status).toBe(401);
    for (const host of [everything, "https://auth.test", "https://open.test"]) {
      const answer = await post("bob", forged, `${host}/.pomerium/mcp/consent-required`);
      expect([answer.status, answer.body.includes("elicitation")]).toEqual([404, false]);
    }
  });
});
