import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, BrowserContext } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { browser as launch } from "../../dev/demo/browser.ts";
import { type E2e, startE2e, type User } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser, type Page } from "../support/http-browser.ts";
import { oauthRequests } from "../support/oauth-requests.ts";
import { loginsOfAlice, passForeignPages } from "../system/browser/walk.ts";

const issuer = "https://auth.corp.test";
const redirectUri = "https://editor.test/callback";
const notBegunHere = "started in another browser";

let stack: E2e;
let chromium: Browser;
/** Another team's application on a sibling host of the issuer's; `script` runs on its page. */
let application: Server;
let script = "";
let oauth: ReturnType<typeof oauthRequests>;
let client: string;

beforeAll(async () => {
  application = createServer((_request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><title>application</title><script>${script}</script>`);
  });
  application.listen(0, "127.0.0.1");
  await once(application, "listening");
  const { port } = application.address() as AddressInfo;
  stack = await startE2e({
    urls: { issuer, everything: "https://everything.corp.test", open: "https://open.corp.test" },
    names: ["app.corp.test"],
    config: (config) => ({
      ...config,
      routes: [
        ...config.routes,
        {
          id: "app",
          name: "Application",
          from: "https://app.corp.test",
          to: `http://127.0.0.1:${port}`,
          mcp: { client: {} },
        },
      ],
    }),
  });
  oauth = oauthRequests(stack);
  client = await oauth.register([redirectUri]);
  chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
});
afterAll(async () => {
  await chromium?.close();
  await stack?.close();
  application?.close();
  application?.closeAllConnections();
});

/** The attacker's browser, which stops at a given URL; the attacker may have an account (Bob's). */
function attacker(stopAt: (url: URL) => boolean): HttpBrowser {
  return httpBrowser({
    fetch: stack.fetch,
    stopAt: (url) => url.origin === new URL(redirectUri).origin || stopAt(url),
  });
}

/** A browser in which the person has already signed in and allowed the client. */
async function browserOf(user: User, browser = attacker(() => false)): Promise<HttpBrowser> {
  const page = await browser.agree(
    await browser.open(oauth.ask(client, redirectUri).url),
    stack.signIn(user),
  );
  expect(page.url.searchParams.get("code")).toBeTruthy();
  return browser;
}

const isInteraction = (url: URL) => url.pathname.startsWith("/oauth/interaction/");

/** Starts an authorization and stops at the gateway's first page. */
async function begin(browser?: HttpBrowser) {
  const own = browser ?? attacker(isInteraction);
  const asked = oauth.ask(client, redirectUri);
  const at = await own.open(asked.url);
  if (!isInteraction(at.url)) throw new Error(`no interaction, but ${at.url.href}`);
  const uid = at.url.pathname.split("/").at(-1) ?? "";
  return { browser: own, asked, uid, at };
}

/** Cookies that any page on a sibling host of the issuer's can set in a visiting browser. */
function planted(uid: string, names: readonly ("interaction" | "resume")[] = ["interaction"]): string[] {
  return names.map((name) => {
    const path = name === "interaction" ? "/oauth/interaction" : "/oauth/authorize";
    return `__Secure-mcp_as_${name}=${uid}; Secure; Path=${path}/${uid}; Domain=corp.test`;
  });
}

async function plant(
  browser: HttpBrowser,
  uid: string,
  ...names: Parameters<typeof planted>[1] & object
): Promise<void> {
  for (const cookie of planted(uid, names)) await browser.jar.setCookie(cookie, "https://app.corp.test/");
}

/** The attacker continues after the victim's browser: returns the redirect to the client, or the final URL. */
async function resume(browser: HttpBrowser, uid: string): Promise<Page> {
  return browser.open(`${issuer}/oauth/authorize/${uid}`);
}

test("login fixation: a page on a sibling host of the issuer's sets the attacker's interaction cookies in real Chromium", async () => {
  const context: BrowserContext = await chromium.newContext();
  await context.route("https://editor.test/**", (route) => route.fulfill({ body: "the editor" }));
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(oauth.ask(client, redirectUri).url.href);
  await passForeignPages(page, loginsOfAlice(stack));
  await page.click("button[value=allow]");
  await page.waitForURL("https://editor.test/**");

  const { browser, uid } = await begin();
  script = `${planted(uid)
    .map((cookie) => `document.cookie = ${JSON.stringify(cookie)};`)
    .join("")}location.href = ${JSON.stringify(`${issuer}/oauth/interaction/${uid}`)};`;
  await page.goto("https://app.corp.test/");
  await page.waitForURL((url) => url.origin === issuer || url.href.startsWith(redirectUri));
  await page.waitForLoadState("load");
  // The planted cookie exists: the attack was actually run.
  const cookies = await context.cookies(`${issuer}/oauth/interaction/${uid}`);
  expect(cookies.map(({ value }) => value)).toContain(uid);

  const end = await resume(browser, uid);
  expect(end.url.searchParams.has("code")).toBe(false);
  expect(new URL(page.url()).pathname).toBe(`/oauth/interaction/${uid}`);
  expect(await page.textContent("main")).toContain(notBegunHere);
  await context.close();
});

test("login fixation: an interaction started in one browser is not valid in another, whatever cookies are planted", async () => {
  const { browser, uid } = await begin();
  const alices = await browserOf("alice");
  await plant(alices, uid, "interaction", "resume");
  const shown = await alices.open(`${issuer}/oauth/interaction/${uid}`);
  expect([shown.status, shown.html.includes(notBegunHere)]).toEqual([400, true]);
  expect((await resume(alices, uid)).url.searchParams.has("code")).toBe(false);
  expect((await resume(browser, uid)).url.searchParams.has("code")).toBe(false);
});

test("login fixation: a sign-in that returns to another browser's interaction fails", async () => {
  const { browser, uid } = await begin();
  const alices = attacker(() => false);
  await plant(alices, uid, "interaction");
  const back = new URLSearchParams({ return_to: `/oauth/interaction/${uid}` });
  const start = await alices.open(`${issuer}/.pomerium/sign_in?${back}`);
  const shown = await alices.agree(start, stack.signIn("alice"));
  expect(shown.html).toContain(notBegunHere);
  expect((await resume(browser, uid)).url.searchParams.has("code")).toBe(false);
});

test("login fixation: a copy of the browser's binding cookie is not sufficient without the person's sign-in", async () => {
  // A shared computer: the attacker has read the cookies that remain after sign-out.
  const { browser, uid } = await begin();
  const alices = attacker(() => false);
  for (const cookie of await browser.jar.getCookies(issuer)) {
    if (cookie.key.includes("browser")) await alices.jar.setCookie(cookie, issuer);
  }
  await browserOf("alice", alices);
  await plant(alices, uid, "interaction");
  await alices.open(`${issuer}/oauth/interaction/${uid}`);
  const end = await resume(browser, uid);
  expect(end.url.searchParams.has("code")).toBe(false);
});

test("an authorization continues as the currently signed-in person, not as the previous one", async () => {
  const bobs = await browserOf("bob");
  const shared = await browserOf("alice");
  const stopping = attacker((url) => url.pathname.startsWith("/oauth/authorize/"));
  for (const cookie of await shared.jar.getCookies(issuer)) await stopping.jar.setCookie(cookie, issuer);
  const asked = oauth.ask(client, redirectUri, { prompt: "consent" });
  const page = await stopping.open(asked.url);
  // A new browser session passes the sign-in step first; then Alice allows, and the browser stops before it continues.
  const resumed = isInteraction(page.url) ? page : await shared.open(page.url);
  const allowed = await stopping.submit(resumed, {}, "decision=allow");
  expect(allowed.url.pathname).toMatch(/^\/oauth\/authorize\//);
  for (const { key, value } of await bobs.jar.getCookies(issuer))
    if (key === "__Host-mcp_session") await shared.jar.setCookie(`${key}=${value}; Secure; Path=/`, issuer);
  for (const cookie of await stopping.jar.getCookies(allowed.url.href))
    if (cookie.key !== "__Host-mcp_session") await shared.jar.setCookie(cookie, allowed.url.href);
  const end = await shared.open(allowed.url);
  expect(end.url.searchParams.has("code")).toBe(false);
  expect(end.html).toContain("bob@example.com");
});

test("a stolen cookie of the authorization server's session does not authenticate", async () => {
  const alices = await browserOf("alice");
  const thief = attacker((url) => url.origin === stack.openid.issuer);
  for (const cookie of await alices.jar.getCookies(issuer))
    if (cookie.key === "__Host-mcp_as_session") await thief.jar.setCookie(cookie, issuer);
  const end = await thief.open(oauth.ask(client, redirectUri).url);
  expect(end.url.origin).toBe(stack.openid.issuer);
});

test("login CSRF: the attacker's handover in the victim's browser does not replace the signed-in person", async () => {
  const application = "https://app.corp.test/.pomerium/sign_in?return_to=/";
  script = "";
  let handover: URL | undefined;
  const alices = attacker((url) => {
    if (url.pathname.endsWith("/sign_in/handover")) handover = url;
    return false;
  });
  await alices.agree(await alices.open(application), stack.signIn("alice"));
  if (!handover) throw new Error("no handover");
  // The attacker has seen her URL (in a log, on a screen) and completes it with his own account.
  const bobs = attacker((url) => url.pathname.endsWith("/sign_in/complete"));
  const complete = await bobs.agree(await bobs.open(handover), stack.signIn("bob"));
  expect(complete.url.searchParams.has("code")).toBe(true);
  const end = await alices.open(complete.url);
  // She is asked, and nothing changes until she answers.
  expect(end.html).toContain("Continue as bob@example.com?");
  const forged = await alices.submit(end, { csrf: "x" });
  expect(forged.status).toBe(400);
  const portal = await alices.open("https://app.corp.test/.pomerium/sign_out");
  expect(portal.html).toContain("alice@example.com");
});

test("tabs that a new browser opens at the same time all reach their clients", async () => {
  const browser = attacker(() => false);
  const tabs = await Promise.all(
    Array.from({ length: 4 }, () => browser.open(oauth.ask(client, redirectUri).url)),
  );
  for (const tab of tabs) {
    const end = await browser.agree(tab, stack.signIn("alice"));
    expect(end.url.searchParams.get("code"), end.html).toBeTruthy();
  }
});
