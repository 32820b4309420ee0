import { parse } from "node-html-parser";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { callbackId } from "../../src/config/callback-urls.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice } from "../upstream-oauth/start-oauth-client.ts";
import { type Answer, type Browser, startPortal } from "./start-portal.ts";

const bob = "company/bob";
const text = (answer: Answer) => parse(answer.body).querySelector("main")?.structuredText ?? answer.body;

describe("a consent link", () => {
  let upstream: ScriptedUpstream;
  let stack: Awaited<ReturnType<typeof startPortal>>;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startPortal(
      `
  - {id: files, name: Files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}
  - {id: open, from: https://open.test, to: ${upstream.url}/open, mcp: {server: {upstream_auth: none}}}
  - {id: all, name: Everything at once, from: https://all.test, to: ${upstream.url}/all, mcp: {server: {}}}`,
      { interruptible: true },
    );
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });

  const link = (more: { userId?: string; routeId?: string; grantId?: string; through?: string } = {}) =>
    stack.createConsentLink({
      userId: more.userId ?? alice,
      route: stack.route(more.routeId),
      clientId: "client-1",
      grantId: more.grantId ?? "grant-1",
      ...(more.through === undefined ? {} : { aggregate: stack.route(more.through) }),
    });
  /** Follows redirects within the gateway. */
  async function follow(browser: Browser, answer: Answer): Promise<Answer> {
    let last = answer;
    while (last.location && last.location.origin !== upstream.url) last = await browser.open(last.location);
    return last;
  }
  async function agree(browser: Browser, url: string): Promise<Answer> {
    const left = await follow(browser, await browser.press(url, await browser.open(url), "allow"));
    if (!left.location) return left;
    const id = callbackId({ id: "files" }, upstream.url);
    const params = upstream.agree(left.location.href);
    return follow(
      browser,
      await browser.open(`https://mcp.test/.pomerium/mcp/client/oauth/callback/${id}?${params}`),
    );
  }
  const credential = async (userId: string) =>
    (await stack.upstreamTokens.find({ userId, kind: "person" }, stack.route())).kind;

  it("names the application, the server and the user, and connects that user after one confirmation", async () => {
    const browser = await stack.browser(alice);
    const url = await link();
    expect(url).toMatch(/^https:\/\/auth\.test\/\.pomerium\/mcp\/consent\/[\w-]{43}$/);
    const page = await browser.open(url);
    expect(page.status).toBe(200);
    for (const fact of ["Connect Files", "Client <client-1>", "Not verified", "https://mcp.test", alice])
      expect(text(page)).toContain(fact);
    const done = await agree(browser, url);
    expect(text(done)).toContain("Files is connected");
    expect(await credential(alice)).toBe("credential");
  });

  it("opening it changes nothing, however often", async () => {
    const browser = await stack.browser(alice);
    const url = await link();
    const before = await stack.query("select count(*) from pending_authorization");
    for (let times = 0; times < 3; times++) expect((await browser.open(url)).status).toBe(200);
    expect(await stack.query("select count(*) from pending_authorization")).toEqual(before);
    expect((await (await stack.browser()).open(url)).location?.pathname).toBe("/.pomerium/sign_in");
    expect(text(await agree(browser, url))).toContain("is connected");
  });

  it("for a member of an aggregated route it is given again to the same grant while it is new and unused", async () => {
    const wanted = { through: "all", grantId: "grant-2" };
    const url = await link(wanted);
    expect(await link(wanted)).toBe(url);
    expect(await link({ ...wanted, grantId: "grant-3" })).not.toBe(url);
    expect(await link({ ...wanted, userId: bob })).not.toBe(url);
    expect(await link({ ...wanted, routeId: "open" })).not.toBe(url);
    expect(await link({ grantId: "grant-2" })).not.toBe(url);
    const browser = await stack.browser(alice);
    await browser.press(url, await browser.open(url), "allow");
    expect(await link(wanted)).not.toBe(url);
  });

  it("works once", async () => {
    const browser = await stack.browser(alice);
    const url = await link();
    const page = await browser.open(url);
    expect((await browser.press(url, page, "allow")).location?.host).toBe("mcp.test");
    const second = await browser.press(url, page, "allow");
    expect([second.status, second.location]).toEqual([400, undefined]);
    expect(text(await browser.open(url))).toContain("has already been used, has expired");
  });

  it("is gone when it has expired", async () => {
    const url = await link();
    await stack.query("update pending_authorization set expires_at = now() - interval '1 second'");
    expect((await (await stack.browser(alice)).open(url)).status).toBe(400);
  });

  it("expires after ten minutes", async () => {
    await link();
    const [row] = await stack.query(
      "select extract(epoch from expires_at - now())::int as left from pending_authorization where kind = 'consent_link'",
    );
    expect(row?.left).toBeGreaterThan(590);
    expect(row?.left).toBeLessThanOrEqual(600);
  });

  it("is rejected for everybody else without naming the user, and stays usable for that user", async () => {
    const url = await link();
    const his = await stack.browser(bob);
    const page = await his.open(url);
    expect(page.status).toBe(403);
    expect(page.body).not.toContain("alice");
    expect(page.body).not.toContain("Files");
    expect(parse(page.body).querySelector("a.button")?.getAttribute("href")).toContain("sign_in?switch=1");
    const mine = await stack.browser(alice);
    const shown = await mine.open(url);
    const csrf = (answer: Answer) => parse(answer.body).querySelector("[name=csrf]")?.getAttribute("value");
    expect(csrf(shown)).toBeDefined();
    // With the form of her page, too.
    expect((await his.press(url, shown, "allow")).status).toBe(403);
    expect(text(await agree(mine, url))).toContain("is connected");
    expect([await credential(alice), await credential(bob)]).toEqual(["credential", "missing"]);
  });

  it("needs the form of its page: without its value nothing is consumed", async () => {
    const browser = await stack.browser(alice);
    const url = await link();
    const page = await browser.open(url);
    const forged = { ...page, body: page.body.replace(/name="csrf" value="[^"]*"/, 'name="csrf" value="x"') };
    expect((await browser.press(url, forged, "allow")).status).toBe(403);
    expect((await browser.open(url)).status).toBe(200);
  });

  it("can be cancelled: the page says what the application gets and how to go back, and the link stays usable", async () => {
    const browser = await stack.browser(alice);
    const url = await link();
    const done = await follow(browser, await browser.press(url, await browser.open(url), "deny"));
    for (const said of [
      "You cancelled",
      "Files was not connected, and Client <client-1> cannot use it.",
      "when it needs the server again, it is answered with a link again",
      "let the application ask again",
    ])
      expect(text(done)).toContain(said);
    expect(await credential(alice)).toBe("missing");
    const back = parse(done.body).querySelector("a.button")?.getAttribute("href") ?? "";
    expect(new URL(back, url).href).toBe(url);
    expect(text(await agree(browser, url))).toContain("is connected");
    // Used in the meantime, in another window.
    expect(text(await browser.open(`${url}?cancelled=1`))).toContain("has already been used");
  });

  it("through an aggregated server, to allow one that is connected: cancelling allows nothing and keeps the connection", async () => {
    const browser = await stack.browser(alice);
    const url = await link({ routeId: "open", through: "all" });
    const done = await follow(browser, await browser.press(url, await browser.open(url), "deny"));
    expect(text(done)).toMatch(/Client <client-1> may not use .*\. Your connection to .* is unchanged\./);
    expect(stack.allowed).toEqual([]);
  });

  it.each([
    ["connect_error=access_denied", "You cancelled", "Files was not connected."],
    [
      "connect_error=access_denied&connect_error_reason=consent_denied",
      "Not connected",
      "Files was not connected: you did not allow it there, or its authorization server denied it.",
    ],
    [
      "connect_error=server_error&connect_error_reason=registration_rejected",
      "Not connected",
      "Files was not connected: its authorization server rejected the registration of this gateway (registration_rejected).",
    ],
    [
      "connect_error=temporarily_unavailable",
      "Not connected",
      "Files was not connected: its sign-in is unavailable. Try again later.",
    ],
  ])(
    "a flow that ends with %s: the last page says why, and how to start again",
    async (query, title, why) => {
      const browser = await stack.browser(alice);
      const page = text(
        await browser.open(`https://auth.test/.pomerium/mcp/consent/done?route=files&${query}`),
      );
      for (const said of [title, why, "it is answered with a link again", "or use “Your connections”"])
        expect(page).toContain(said);
    },
  );

  it("the upstream denies it: the last page says that it was not allowed there", async () => {
    const browser = await stack.browser(alice);
    const url = await link();
    const left = await follow(browser, await browser.press(url, await browser.open(url), "allow"));
    const id = callbackId({ id: "files" }, upstream.url);
    const params = new URLSearchParams({
      error: "access_denied",
      state: left.location?.searchParams.get("state") ?? "",
      iss: upstream.url,
    });
    const done = await follow(
      browser,
      await browser.open(`https://mcp.test/.pomerium/mcp/client/oauth/callback/${id}?${params}`),
    );
    expect(text(done)).toContain("Files was not connected: you did not allow it there");
  });

  it("the agreement is for one session and one connection: another user cannot continue with it", async () => {
    for (const userId of [bob, alice]) {
      const browser = await stack.browser(alice);
      const url = await link();
      const left = await browser.press(url, await browser.open(url), "allow");
      const other = await stack.browser(userId);
      let answer = await other.open(left.location ?? "");
      while (answer.location?.host.endsWith(".test")) answer = await other.open(answer.location);
      expect(answer.location).toBeUndefined();
      expect(await credential(userId)).toBe("missing");
    }
  });

  it("policy decides whether its user may still use the server", async () => {
    const url = await link({ userId: "company/mallory" });
    expect((await (await stack.browser("company/mallory")).open(url)).status).toBe(403);
  });

  it("the last page does not claim a connection that is not there", async () => {
    const browser = await stack.browser(alice);
    const page = await browser.open("https://auth.test/.pomerium/mcp/consent/done?route=files");
    expect(text(page)).toContain("Files was not connected");
  });

  it("of a connected server leads to the last page at once", async () => {
    const browser = await stack.browser(alice);
    await agree(browser, await link());
    const done = await follow(browser, await browser.open(await link()));
    expect(text(done)).toContain("Files is connected");
  });

  it("through an aggregated server records what was allowed, once, when the button is pressed", async () => {
    const browser = await stack.browser(alice);
    const url = await link({ grantId: "grant-2", through: "all" });
    const page = await browser.open(url);
    expect(text(page)).toContain("Everything at once");
    expect(stack.allowed).toEqual([]);
    await agree(browser, url);
    expect(stack.allowed).toMatchObject([
      { userId: alice, grantId: "grant-2", aggregate: "all", routeId: "files" },
    ]);
    // Connected already, or without consent: the button alone.
    for (const routeId of ["files", "open"]) {
      const next = await link({ routeId, grantId: "grant-3", through: "all" });
      const asked = await browser.open(next);
      expect(text(asked)).toContain("Allow Client <client-1> to use");
      const done = await follow(browser, await browser.press(next, asked, "allow"));
      expect(text(done)).toContain("is connected");
    }
    expect(stack.allowed.slice(1)).toMatchObject([
      { grantId: "grant-3", routeId: "files" },
      { grantId: "grant-3", routeId: "open" },
    ]);
  });

  it("there are at most as many as limits.pending_authorizations_per_user; the oldest end", async () => {
    const { pendingAuthorizationsPerUser } = stack.routes().config.limits;
    const first = await link();
    for (let made = 0; made < pendingAuthorizationsPerUser; made++) await link();
    const [row] = await stack.query(
      "select count(*)::int as n from pending_authorization where kind = 'consent_link'",
    );
    expect(row?.n).toBe(pendingAuthorizationsPerUser);
    expect((await (await stack.browser(alice)).open(first)).status).toBe(400);
  });

  it("without the database there is neither a link nor a page", async () => {
    const url = await link();
    const browser = await stack.browser(alice);
    await stack.databaseProxy.cut();
    await expect(link()).rejects.toMatchObject({ code: "store_unavailable" });
    expect((await browser.open(url)).status).toBeGreaterThanOrEqual(500);
  });
});
