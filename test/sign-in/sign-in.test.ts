import { parse } from "node-html-parser";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createSignIn } from "../../src/sign-in/create-sign-in.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { registeredApp, throughCompany } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { changes } from "../store/changes.ts";
import type { HttpBrowser } from "../support/http-browser.ts";

let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer();
});
afterAll(() => stack.close());

const signInUrl = (host: string, returnTo = "/whoami") =>
  `https://${host}/.pomerium/sign_in?${new URLSearchParams({ return_to: returnTo })}`;

async function signIn(
  browser: HttpBrowser,
  host = "auth.test",
  person: "alice" | "bob" = "alice",
  returnTo?: string,
) {
  return throughCompany(stack, browser, await browser.open(signInUrl(host, returnTo)), person);
}

const whoami = async (browser: HttpBrowser, host: string) =>
  JSON.parse((await browser.open(`https://${host}/whoami`)).html) as Record<string, unknown>;

const sessionCookie = async (browser: HttpBrowser, host: string) =>
  (await browser.jar.getCookies(`https://${host}/`)).find(({ key }) => key === "__Host-mcp_session");

/** Follows one redirect, so that a test can intervene. */
async function step(browser: HttpBrowser, url: string) {
  const cookie = await browser.jar.getCookieString(url);
  const response = await stack.fetch(url, { redirect: "manual", headers: { cookie, accept: "text/html" } });
  for (const header of response.headers.getSetCookie()) await browser.jar.setCookie(header, url);
  return {
    status: response.status,
    location: response.headers.get("location") ?? "",
    html: await response.text(),
  };
}

describe("on the issuer's host", () => {
  test("a user signs in and returns to the requested page", async () => {
    const browser = stack.browser();
    const page = await signIn(browser, "auth.test", "alice", "/whoami?x=1");
    expect(page.url.href).toBe("https://auth.test/whoami?x=1");
    expect(JSON.parse(page.html)).toMatchObject({
      userId: "company/alice",
      email: "alice@example.com",
      name: "Alice Liddell",
      groups: ["engineering", "everyone"],
    });
  });

  test("the session cookie is HttpOnly, host-only and expires with the session", async () => {
    const browser = stack.browser();
    await signIn(browser);
    const cookie = await sessionCookie(browser, "auth.test");
    expect(cookie).toMatchObject({
      httpOnly: true,
      secure: true,
      path: "/",
      hostOnly: true,
      sameSite: "lax",
    });
    expect(cookie?.expires).toBeInstanceOf(Date);
  });

  test("the session has a new id that cannot have been planted", async () => {
    const browser = stack.browser();
    const planted = "A".repeat(43);
    await browser.jar.setCookie(`__Host-mcp_session=${planted}; Path=/; Secure`, "https://auth.test/");
    await signIn(browser);
    expect((await sessionCookie(browser, "auth.test"))?.value).not.toBe(planted);
  });

  test("signing in as another user asks first, and then ends the first session", async () => {
    const browser = stack.browser();
    await signIn(browser);
    const first = (await sessionCookie(browser, "auth.test"))?.value ?? "";
    const company = await browser.open(`${signInUrl("auth.test")}&switch=1`);
    const asked = await throughCompany(stack, browser, company, "bob");
    expect(asked.html).toContain("Continue as bob@example.com?");
    expect(await whoami(browser, "auth.test")).toMatchObject({ userId: "company/alice" });
    const page = await browser.submit(asked, {});
    expect(JSON.parse(page.html)).toMatchObject({ userId: "company/bob" });
    expect(await stack.store.browserSessions.find(first)).toBeUndefined();
  });

  test("two tabs sign in concurrently", async () => {
    const browser = stack.browser();
    const first = await browser.open(signInUrl("auth.test", "/whoami?tab=1"));
    const second = await browser.open(signInUrl("auth.test", "/whoami?tab=2"));
    const secondEnd = await throughCompany(stack, browser, second, "alice");
    const firstEnd = await throughCompany(stack, browser, first, "alice");
    expect([firstEnd.url.search, secondEnd.url.search]).toEqual(["?tab=1", "?tab=2"]);
    expect(await whoami(browser, "auth.test")).toMatchObject({ userId: "company/alice" });
  });

  test("the provider's response works once, and only in the browser that started the sign-in", async () => {
    const victim = stack.browser();
    const start = await step(victim, signInUrl("auth.test"));
    const attacker = stack.browser();
    const toCompany = await attacker.open(start.location);
    expect(toCompany.url.origin).toBe(stack.company.issuer);
    const end = await throughCompany(stack, attacker, toCompany, "bob");
    expect(end).toMatchObject({ status: 400 });
    expect(end.html).toContain("wrong_browser");
    expect(await whoami(attacker, "auth.test")).toEqual({});
    expect(await step(victim, end.url.href)).toMatchObject({ status: 400 });
    expect(await whoami(victim, "auth.test")).toEqual({});
  });

  test.each(["", "?state=unknown&code=x", "?code=x"])(
    "a callback with %s is an error page",
    async (query) => {
      const page = await stack.browser().open(`https://auth.test/.pomerium/sign_in/callback${query}`);
      expect(page.status).toBe(400);
      expect(page.html).toContain("Request id");
    },
  );

  test("a rejection by the provider is shown, with a link to try again", async () => {
    const browser = stack.browser();
    const start = await step(browser, signInUrl("auth.test"));
    const state = new URL(start.location).searchParams.get("state") ?? "";
    const query = new URLSearchParams({ state, error: "access_denied", iss: stack.company.issuer });
    const page = await browser.open(`https://auth.test/.pomerium/sign_in/callback?${query}`);
    expect(page.status).toBe(403);
    expect(parse(page.html).querySelector("a.button")?.getAttribute("href")).toContain("return_to=%2Fwhoami");
  });

  test("an unavailable provider is shown", async () => {
    const lonely = await startAuthorizationServer();
    await lonely.company.close();
    const page = await lonely.browser().open(signInUrl("auth.test"));
    expect(page.status).toBe(502);
    expect(page.html).toContain("Company");
    await lonely.close();
  });

  test.each([
    "https://attacker.test/",
    "//attacker.test/",
    "/\\attacker.test/",
    "/\t/attacker.test/",
    "\\\\attacker.test",
    "javascript:alert(1)",
    "/..//attacker.test/",
    "attacker",
  ])("return_to %j stays here", async (returnTo) => {
    const browser = stack.browser();
    const { location } = await step(browser, signInUrl("auth.test", returnTo));
    const page = await throughCompany(stack, browser, await browser.open(location), "alice");
    expect(page.url.origin).toBe("https://auth.test");
  });
});

describe("on a route's host", () => {
  test("the session is handed over and belongs to the route's host", async () => {
    const browser = stack.browser();
    const page = await signIn(browser, "one.test");
    expect(page.url.href).toBe("https://one.test/whoami");
    const here = JSON.parse(page.html);
    const issuers = await whoami(browser, "auth.test");
    expect(here).toMatchObject({ userId: "company/alice", parentSessionName: issuers.sessionName });
    const [one, auth] = [await sessionCookie(browser, "one.test"), await sessionCookie(browser, "auth.test")];
    expect(one?.value).not.toBe(auth?.value);
    expect(await stack.store.browserSessions.find(one?.value ?? "")).toMatchObject({ host: "one.test" });
  });

  test("a cookie of one host is invalid on another", async () => {
    const browser = stack.browser();
    await signIn(browser, "one.test");
    const value = (await sessionCookie(browser, "one.test"))?.value;
    const other = stack.browser();
    await other.jar.setCookie(`__Host-mcp_session=${value}; Path=/; Secure`, "https://many.test/");
    expect(await whoami(other, "many.test")).toEqual({});
    expect(
      await stack.signIn.sessionFromCookieHeader(`a=b; __Host-mcp_session=${value}`, "many.test"),
    ).toBeUndefined();
    expect(
      await stack.signIn.sessionFromCookieHeader(`a=b; __Host-mcp_session=${value}`, "one.test"),
    ).toMatchObject({
      userId: "company/alice",
    });
  });

  test("a repeated lookup of a cookie header needs no I/O", async () => {
    const browser = stack.browser();
    await signIn(browser, "one.test");
    const header = await browser.jar.getCookieString("https://one.test/");
    const look = () => stack.signIn.sessionFromCookieHeader(header, "one.test");
    // Nothing is cached while the listener is disconnected.
    const again = async () => {
      await look();
      const second = look();
      return { waits: second instanceof Promise, person: await second };
    };
    await expect.poll(again).toMatchObject({ waits: false, person: { userId: "company/alice" } });
  });

  /** Signed in on the issuer's host, up to the redirect with the one-time code. */
  async function codeFor(browser: HttpBrowser): Promise<string> {
    await signIn(browser);
    const leave = await step(browser, signInUrl("one.test"));
    const issue = await step(browser, leave.location);
    expect(new URL(issue.location).pathname).toBe("/.pomerium/sign_in/complete");
    return issue.location;
  }

  test("the code works once", async () => {
    const browser = stack.browser();
    const complete = await codeFor(browser);
    expect(await step(browser, complete)).toMatchObject({ status: 302, location: "/whoami" });
    expect(await step(browser, complete)).toMatchObject({ status: 400 });
  });

  test("a code stolen by another browser is rejected and consumed", async () => {
    const victim = stack.browser();
    const complete = await codeFor(victim);
    const thief = stack.browser();
    await step(thief, signInUrl("one.test"));
    expect(await step(thief, complete)).toMatchObject({ status: 400 });
    expect(await whoami(thief, "one.test")).toEqual({});
    expect(await step(victim, complete)).toMatchObject({ status: 400 });
  });

  test("the code for one host is rejected on another", async () => {
    const browser = stack.browser();
    const complete = await codeFor(browser);
    // Not even for a browser with the other host's binding cookie.
    const binding = await browser.jar.getCookies("https://one.test/");
    const [cookie] = binding.filter(({ key }) => key.startsWith("__Host-mcp_browser"));
    if (!cookie) throw new Error("no binding cookie");
    await browser.jar.setCookie(`${cookie.key}=${cookie.value}; Path=/; Secure`, "https://many.test/");
    expect(await step(browser, complete.replace("one.test", "many.test"))).toMatchObject({ status: 400 });
    expect(await whoami(browser, "many.test")).toEqual({});
  });

  test("the code becomes invalid when its session ends", async () => {
    const browser = stack.browser();
    const complete = await codeFor(browser);
    await stack.store.browserSessions.endForUser("company/alice");
    expect(await step(browser, complete)).toMatchObject({ status: 400 });
  });

  test("limits.pending_authorizations_per_user: the oldest of too many codes is dropped and counted", async () => {
    const limits = "limits: {pending_authorizations_per_user: 1}\n";
    await stack.reload((yaml) => limits + yaml);
    const browser = stack.browser();
    const [oldest, newest] = [await codeFor(browser), await codeFor(browser)];
    expect(await step(browser, oldest)).toMatchObject({ status: 400 });
    const counted = (await stack.metrics.limitsReached.get()).values.map(({ labels }) => labels.limit);
    expect(counted).toEqual(["pending_authorizations_per_user"]);
    expect(await step(browser, newest)).toMatchObject({ status: 302 });
    await stack.reload((yaml) => yaml.replace(limits, ""));
  });

  test.each([
    { host: "attacker.test" },
    { host: "auth.test.attacker.test" },
    { return_to: "https://attacker.test/" },
    { return_to: "//attacker.test/" },
    { browser: "" },
    { browser: "short" },
  ])("no code is made for %j", async (changes) => {
    const browser = stack.browser();
    await signIn(browser);
    const query = new URLSearchParams({
      host: "one.test",
      return_to: "/whoami",
      browser: "A".repeat(43),
      ...changes,
    });
    const answer = await step(browser, `https://auth.test/.pomerium/sign_in/handover?${query}`);
    expect(answer).toMatchObject({ status: 400, location: "" });
  });

  test("issuer-only paths do not exist there", async () => {
    for (const path of ["callback", "handover"]) {
      expect((await stack.fetch(`https://one.test/.pomerium/sign_in/${path}`)).status).toBe(404);
    }
  });
});

describe("sign-out", () => {
  test("asks first; the button ends the session on all hosts", async () => {
    const browser = stack.browser();
    await signIn(browser, "one.test");
    await signIn(browser, "many.test");
    const page = await browser.open("https://one.test/.pomerium/sign_out");
    expect(page.html).toContain("alice@example.com");
    expect(await whoami(browser, "one.test")).toMatchObject({ userId: "company/alice" });
    const end = await browser.submit(page, {});
    expect(end.url.origin).toBe(stack.company.issuer);
    for (const host of ["one.test", "many.test", "auth.test"])
      expect(await whoami(browser, host)).toEqual({});
  });

  test("a read that was in progress when the session ended is not cached on any replica", async () => {
    const browser = stack.browser();
    await signIn(browser, "one.test");
    const header = await browser.jar.getCookieString("https://one.test/");
    const arrived = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const { store } = stack;
    const find: typeof store.browserSessions.find = async (id) => {
      const found = await store.browserSessions.find(id);
      arrived.resolve();
      await released.promise;
      return found;
    };
    const browserSessions = { ...store.browserSessions, find };
    const replica = createSignIn({
      routes: stack.routes,
      store: { ...store, browserSessions },
      fetch: globalThis.fetch,
      logger: createLogger({ level: "silent" }),
    });
    const look = replica.sessionFromCookieHeader(header, "one.test");
    await arrived.promise;
    const { next, stop } = changes(store, ({ table }) => table === "browser_session");
    await browser.submit(await browser.open("https://one.test/.pomerium/sign_out"), {});
    await next;
    stop();
    released.resolve();
    expect(await look).toMatchObject({ userId: "company/alice" });
    expect(await replica.sessionFromCookieHeader(header, "one.test")).toBeUndefined();
  });

  test.each([{ csrf: "" }, { csrf: "B".repeat(43) }, { csrf: "ä".repeat(43) }])(
    "posted with %j does nothing",
    async (values) => {
      const browser = stack.browser();
      await signIn(browser);
      const page = await browser.open("https://auth.test/.pomerium/sign_out");
      expect(await browser.submit(page, values)).toMatchObject({ status: 403 });
      expect(await whoami(browser, "auth.test")).toMatchObject({ userId: "company/alice" });
    },
  );

  test("reports that the user is already signed out", async () => {
    const page = await stack.browser().open("https://auth.test/.pomerium/sign_out");
    expect(page).toMatchObject({ status: 200 });
    expect(page.html).toContain("You are signed out");
  });

  test("does not end the grants of applications", async () => {
    const browser = stack.browser();
    const app = await registeredApp(stack);
    const tokens = await app.tokens(browser, "alice");
    await browser.submit(await browser.open("https://auth.test/.pomerium/sign_out"), {});
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("says on its page and its button what it ends: this browser's sessions", async () => {
    const browser = stack.browser();
    await signIn(browser);
    const page = await browser.open("https://auth.test/.pomerium/sign_out");
    expect(parse(page.html).querySelector("button")?.text).toBe("Sign out");
    expect(page.html).toContain("in this browser");
    expect(page.html).toContain("Applications you allowed keep their access");
  });
});

test("several providers: the user chooses, and users of two providers are kept apart", async () => {
  const many = await startAuthorizationServer();
  await many.reload((yaml) => {
    const second = yaml.slice(yaml.indexOf("    - id: company"), yaml.indexOf("\nroutes:"));
    return yaml.replace(
      "\nroutes:",
      `${second.replace("id: company", "id: partner").replace("name: Company", "name: Partner")}\nroutes:`,
    );
  });
  const browser = many.browser();
  const page = await browser.open(signInUrl("auth.test"));
  const links = parse(page.html).querySelectorAll("nav a");
  expect(links.map((link) => link.text)).toEqual(["Continue with Company", "Continue with Partner"]);
  const company = await browser.open(links[1]?.getAttribute("href") ?? "");
  const end = await throughCompany(many, browser, company, "alice");
  expect(JSON.parse(end.html)).toMatchObject({ userId: "partner/alice" });
  await many.close();
});
