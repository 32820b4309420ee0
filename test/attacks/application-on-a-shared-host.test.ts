import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { callbackId } from "../../src/config/callback-urls.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";
import { agreeToConnect, loginsOfAlice, passForeignPages } from "../system/browser/walk.ts";

const app = "https://everything.test/app";
const connect = (more: Record<string, string> = {}) =>
  `https://everything.test/.pomerium/mcp/connect?${new URLSearchParams({ route: "everything", redirect_url: app, ...more })}`;
const connectPath = /^\/\.pomerium\/mcp\//;

/** Records browser navigations on its host. */
const worker = `
addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate") return;
  const reported = fetch("/app/seen", { method: "POST", body: event.request.url });
  event.respondWith(reported.then(() => fetch(event.request)));
});`;

describe("a malicious application on the host of an MCP route", () => {
  /** Navigations seen by the application's service worker. */
  const seen: URL[] = [];
  let application: Server;
  let stack: E2e;
  let chromium: Browser;
  let bob: HttpBrowser;
  let alice: { context: BrowserContext; page: Page };

  beforeAll(async () => {
    application = createServer(async (request, response) => {
      if (request.url === "/app/seen") seen.push(new URL(await text(request)));
      const isWorker = request.url === "/app/worker.js";
      response
        .writeHead(200, {
          "content-type": isWorker ? "text/javascript" : "text/html",
          "service-worker-allowed": "/",
        })
        .end(isWorker ? worker : "<!doctype html><title>app</title>");
    });
    application.listen(0, "127.0.0.1");
    await once(application, "listening");
    const { port } = application.address() as AddressInfo;
    const id = callbackId({ id: "everything" });
    stack = await startE2e({
      redirectUris: [`https://auth.test/.pomerium/mcp/client/oauth/callback/${id}`],
      config: (config) => ({
        ...config,
        routes: [
          ...config.routes,
          { id: "app", from: app, to: `http://127.0.0.1:${port}`, mcp: { client: { shares_host: true } } },
        ],
      }),
    });
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
  });
  beforeEach(async () => {
    await alice?.context.close();
    const context = await chromium.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(app);
    await passForeignPages(page, loginsOfAlice(stack));
    expect(page.url()).toBe(app);
    alice = { context, page };
    bob = httpBrowser({ fetch: stack.fetch, stopAt: (url) => url.origin === stack.upstream.issuer });
    seen.length = 0;
  });
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
    application?.close();
    application?.closeAllConnections();
  });

  async function signInBob(): Promise<void> {
    const page = await bob.open("https://everything.test/.pomerium/sign_in?return_to=/app");
    expect((await bob.agree(page, stack.signIn("bob"))).url.href).toBe(app);
  }
  /** Bob confirms connecting as himself, and stops at the link to the upstream. */
  async function linkOfBob(): Promise<URL> {
    await signInBob();
    const asked = await bob.agree(await bob.open(connect()), stack.signIn("bob"));
    expect(asked.url.origin).toBe(stack.upstream.issuer);
    return asked.url;
  }
  /** Whether Bob is connected, as shown in his browser on the route's host. */
  async function isConnected(): Promise<boolean> {
    await signInBob();
    const listing = JSON.parse((await bob.open("https://everything.test/.pomerium/mcp/routes")).html);
    return listing.servers.find(({ name }: { name: string }) => name === "Everything").connected;
  }
  async function installWorker(page: Page): Promise<void> {
    await page.goto(app);
    await page.evaluate(async () => {
      const controlled = new Promise((resolve) =>
        navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }),
      );
      await navigator.serviceWorker.register("/app/worker.js", { scope: "/" });
      await controlled;
    });
    await page.goto("https://everything.test/.well-known/oauth-protected-resource");
    expect(seen.map(({ pathname }) => pathname)).toContain("/.well-known/oauth-protected-resource");
  }
  const heading = (page: Page) => page.getByRole("heading", { level: 1 }).textContent();

  it("sets all cookies of the attacker's browser and sends her directly to the upstream: nothing is connected", async () => {
    const link = await linkOfBob();
    await alice.context.clearCookies({ domain: "everything.test" });
    for (const { key, value } of await bob.jar.getCookies("https://everything.test/"))
      await alice.context.addCookies([
        { name: key, value, url: "https://everything.test", secure: true, httpOnly: true },
      ]);
    await alice.page.goto(link.href);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    expect(new URL(alice.page.url()).origin).toBe("https://auth.test");
    expect(await heading(alice.page)).toBe("Not connected");
    expect(await isConnected()).toBe(false);
  });

  it("tries to read the returned code with a service worker, for the attacker to redeem: there is none", async () => {
    await installWorker(alice.page);
    await alice.page.goto((await linkOfBob()).href);
    await passForeignPages(alice.page, loginsOfAlice(stack));
    const codes = seen.filter(({ searchParams }) => searchParams.has("code") && searchParams.has("state"));
    for (const url of codes) await bob.open(url);
    expect(codes).toEqual([]);
    expect(new URL(alice.page.url()).origin).toBe("https://auth.test");
    expect(await isConnected()).toBe(false);
  });

  it("tries to learn the session's name while she connects, to connect other servers without a prompt: it sees none", async () => {
    await installWorker(alice.page);
    await alice.page.goto("https://auth.test/.pomerium/routes");
    await alice.page.getByRole("button", { name: "Connect Everything" }).click();
    await passForeignPages(alice.page, loginsOfAlice(stack));
    await alice.page.getByText("Everything is connected.").waitFor();
    const ours = seen.filter(({ pathname }) => connectPath.test(pathname));
    expect(ours.filter(({ searchParams }) => searchParams.has("session"))).toEqual([]);
    await alice.page.getByRole("button", { name: "Disconnect Everything" }).click();
    await alice.page.getByText("Everything is disconnected").waitFor();
  });

  it("she can still connect: the issuer's host asks, and a pop-up on the server's origin shows the result", async () => {
    const opened = alice.context.waitForEvent("page");
    const reported = alice.page.evaluate(
      (url) =>
        new Promise<{ origin: string; data: unknown }>((resolve) => {
          window.addEventListener("message", ({ origin, data }) => resolve({ origin, data }), { once: true });
          window.open(url, "connect", "popup");
        }),
      connect({ popup: "1" }),
    );
    const popup = await opened;
    const closed = popup.waitForEvent("close");
    await agreeToConnect(popup);
    await popup.waitForURL((url) => url.origin === stack.upstream.issuer);
    await passForeignPages(popup, loginsOfAlice(stack)).catch((error: Error) => {
      // It may close itself before its load event.
      if (!popup.isClosed()) throw error;
    });
    expect(await reported).toEqual({
      origin: "https://everything.test",
      data: { type: "mcp_connect", route: "everything", connected: true },
    });
    await closed;
  });

  it("an MCP client can still authorize: this includes the upstream's consent, and no other prompt", async () => {
    expect(await isConnected()).toBe(false);
    expect(await stack.externalToken("bob")).toBeTruthy();
    expect(await isConnected()).toBe(true);
  });
});
