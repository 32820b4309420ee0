import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { httpBrowser } from "../support/http-browser.ts";
import {
  agreeToConnect,
  continueAsOther,
  type Logins,
  loginsOfAlice,
  loginsOfBob,
  passForeignPages,
} from "../system/browser/walk.ts";

const app = "https://everything.test/app";
/** A page on the route's host without a script. */
const nowhere = "https://everything.test/.well-known/oauth-protected-resource";
const connect = (more: Record<string, string> = {}) =>
  `https://everything.test/.pomerium/mcp/connect?${new URLSearchParams({ route: "everything", redirect_url: app, ...more })}`;

describe("a session planted on a route's host: Bob's session in Alice's browser, to connect her upstream account to him", () => {
  let stack: E2e;
  let chromium: Browser;
  let alice: { context: BrowserContext; page: Page };
  let bob: { context: BrowserContext; page: Page };

  beforeAll(async () => {
    stack = await startE2e();
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
    bob = await somebody(loginsOfBob(stack));
  });
  beforeEach(async () => {
    await alice?.context.close();
    alice = await somebody(loginsOfAlice(stack));
    // Set in any way: by a header, a script, an extension.
    const value = await session(bob.context, "https://everything.test");
    await alice.context.addCookies([
      { name: "__Host-mcp_session", value, url: "https://everything.test", secure: true, httpOnly: true },
    ]);
    expect(await session(alice.context, "https://everything.test")).toBe(value);
  });
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
  });

  /** A browser with a session on the route's host. */
  async function somebody(logins: Logins) {
    const context = await chromium.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(
      "https://everything.test/.pomerium/sign_in?return_to=/.well-known/oauth-protected-resource",
    );
    await passForeignPages(page, logins);
    expect(page.url()).toBe(nowhere);
    return { context, page };
  }
  const session = async (context: BrowserContext, url: string) =>
    (await context.cookies(url)).find(({ name }) => name === "__Host-mcp_session")?.value ?? "";
  /** Whether this person has connected the server, as shown in another browser of theirs. */
  async function connected(logins: Logins): Promise<boolean> {
    const { context, page } = await somebody(logins);
    const listing = await page.evaluate(async () => (await fetch("/.pomerium/mcp/routes")).json());
    await context.close();
    return listing.servers.find(({ name }: { name: string }) => name === "Everything").connected;
  }
  const heading = (page: Page) => page.getByRole("heading", { level: 1 }).textContent();

  it.each([
    ["a link to connect", async () => ({})],
    [
      "a link that names his session",
      async () => ({ session: hashedHandle(await session(bob.context, "https://auth.test")) }),
    ],
  ])(
    "%s: the issuer's host asks her as whom to connect, before any redirect to the upstream",
    async (_link, more) => {
      const requests: string[] = [];
      alice.page.on("request", (request) => requests.push(request.url()));
      await alice.page.goto(connect(await more()));
      expect(new URL(alice.page.url()).origin).toBe("https://auth.test");
      expect(await heading(alice.page)).toBe("Connect Everything as alice@example.com?");
      expect(requests.filter((url) => url.startsWith(stack.upstream.issuer))).toEqual([]);
      await alice.page.getByRole("button", { name: "Cancel" }).click();
      await alice.page.waitForURL((url) => url.searchParams.get("connect_error") === "access_denied");
      expect(new URL(alice.page.url()).origin).toBe("https://everything.test");
    },
  );

  it("his forwarded confirmation is valid in his browser only", async () => {
    const his = httpBrowser({ fetch: stack.fetch, stopAt: (url) => url.searchParams.has("confirmed") });
    const asked = await his.agree(await his.open(connect()), stack.signIn("bob"));
    expect(asked.url.searchParams.get("confirmed")).toMatch(/^[\w-]{43}$/);
    await alice.page.goto(asked.url.href);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    await continueAsOther(alice.page);
    expect(new URL(alice.page.url()).origin).toBe("https://everything.test");
    expect(await heading(alice.page)).toBe("Not connected");
    expect(await connected(loginsOfBob(stack))).toBe(false);
  });

  it("a script on the host cannot read, frame or submit the prompt", async () => {
    await alice.page.goto(connect());
    const question = alice.page.url();
    expect(await heading(alice.page)).toContain("alice@example.com");
    await alice.page.goto(nowhere);
    const read = await alice.page.evaluate(
      (url) =>
        fetch(url, { credentials: "include" }).then(
          () => "read",
          () => "refused",
        ),
      question,
    );
    expect(read).toBe("refused");
    await alice.page.setContent(
      `<form method="post" action="${question.replaceAll("&", "&amp;")}"><button name="decision" value="allow">x</button></form>`,
    );
    await alice.page.click("button");
    await alice.page.waitForURL((url) => url.origin === "https://auth.test");
    expect(await connected(loginsOfAlice(stack))).toBe(false);
    expect(await connected(loginsOfBob(stack))).toBe(false);
  });

  it("after she agrees, her upstream account is connected to her own account", async () => {
    await alice.page.goto(connect());
    await agreeToConnect(alice.page);
    await continueAsOther(alice.page);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    expect(alice.page.url()).toBe(app);
    expect(await connected(loginsOfAlice(stack))).toBe(true);
    expect(await connected(loginsOfBob(stack))).toBe(false);
  });
});
