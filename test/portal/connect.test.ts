import { parse } from "node-html-parser";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { callbackId } from "../../src/config/callback-urls.ts";
import { discoveryFaults, documentedFaults } from "../compatibility/discovery-faults.ts";
import { audit, upstreamToken } from "../store/samples.ts";
import { rowsOf } from "../support/rows-of.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice } from "../upstream-oauth/start-oauth-client.ts";
import { type Browser, startPortal } from "./start-portal.ts";

const done = "https://app.test/done?x=1";
const clientBase = "https://mcp.test/.pomerium/mcp";
const files = "id: files, from: https://mcp.test";

describe("connecting in the browser", () => {
  let upstream: ScriptedUpstream;
  let stack: Awaited<ReturnType<typeof startPortal>>;
  beforeEach(async () => {
    upstream = await scriptedUpstream();
    stack = await startPortal(`
  - {id: files, from: https://mcp.test, to: ${upstream.mcp}, mcp: {server: {}}}
  - {id: open, from: https://open.test, to: ${upstream.url}/open, mcp: {server: {upstream_auth: none}}}
  - {id: app, from: https://app.test, to: ${upstream.url}/app, mcp: {client: {}}}`);
  });
  afterEach(async () => {
    await Promise.all([upstream.close(), stack.close()]);
  });
  const connectUrl = (query: Record<string, string> = {}, at = clientBase) =>
    `${at}/connect?${new URLSearchParams({ redirect_url: done, ...query })}`;
  const callbackUrl = (params: URLSearchParams) =>
    `${clientBase}/client/oauth/callback/${callbackId({ id: "files" }, upstream.url)}?${params}`;
  async function leave(browser: Browser, query: Record<string, string> = {}) {
    const answer = await browser.connect(connectUrl(query));
    if (!answer.location) throw new Error(`${answer.status}: ${answer.body}`);
    return { ...answer, location: answer.location.href };
  }

  it("obtains the token and returns; if already connected, returns immediately", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser);
    expect(new URL(location).origin).toBe(upstream.url);
    const back = await browser.open(callbackUrl(upstream.agree(location)));
    expect(back.location?.href).toBe(done);
    expect((await stack.upstreamTokens.find({ userId: alice, kind: "person" }, stack.route())).kind).toBe(
      "credential",
    );
    expect((await browser.open(connectUrl())).location?.href).toBe(done);
    const other = await stack.browser(alice, "open.test");
    const nothingToDo = await other.open(connectUrl({}, "https://open.test/.pomerium/mcp"));
    expect(nothingToDo.location?.href).toBe(done);
  });

  it("binds the authorization flow to this browser: a host-only, secure, HttpOnly cookie, removed afterwards", async () => {
    const browser = await stack.browser(alice);
    const { location, setCookie } = await leave(browser);
    const cookie = setCookie.find((one) => one.startsWith("__Host-mcp_consent_")) ?? "";
    for (const attribute of ["path=/", "secure", "httponly", "samesite=lax"]) {
      expect(cookie.toLowerCase()).toContain(attribute);
    }
    expect(cookie.toLowerCase()).not.toContain("domain");
    await browser.open(callbackUrl(upstream.agree(location)));
    expect([...browser.cookies.keys()].filter((name) => name.includes("consent"))).toEqual([]);
  });

  it("a callback in another browser, or signed out, or as another user, stores nothing", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser);
    const params = upstream.agree(location);
    for (const userId of [alice, "company/bob", undefined]) {
      const otherBrowser = await stack.browser(userId);
      const answer = await otherBrowser.open(callbackUrl(params));
      expect(answer.status).toBe(userId ? 400 : 403);
      expect(answer.body).toMatch(/[Rr]equest id/);
      expect(answer.location).toBeUndefined();
    }
    expect(upstream.tokenRequests).toEqual([]);
    const bob = await stack.browser("company/bob");
    for (const [name, value] of browser.cookies) if (name.includes("consent")) bob.cookies.set(name, value);
    expect((await bob.open(callbackUrl(params))).status).toBe(400);
    expect(upstream.tokenRequests).toEqual([]);
  });

  it("two authorization flows in one browser do not interfere", async () => {
    const browser = await stack.browser(alice);
    const first = await leave(browser);
    const second = await leave(browser);
    expect((await browser.open(callbackUrl(upstream.agree(second.location)))).location?.href).toBe(done);
    expect((await browser.open(callbackUrl(upstream.agree(first.location)))).location?.href).toBe(done);
  });

  it("if the server has forgotten our client in the meantime, the same browser starts again with a new one", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser);
    upstream.clients.clear();
    const again = await browser.open(callbackUrl(upstream.agree(location)));
    const leaving = new URL(again.location ?? "");
    expect(leaving.origin + leaving.pathname).toBe(`${upstream.url}/authorize`);
    expect(leaving.searchParams.get("client_id")).not.toBe(new URL(location).searchParams.get("client_id"));
    const back = callbackUrl(upstream.agree(leaving.href));
    expect((await (await stack.browser(alice)).open(back)).status).toBe(400);
    expect((await browser.open(back)).location?.href).toBe(done);
  });

  it("the callback works once", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser);
    const url = callbackUrl(upstream.agree(location));
    await browser.open(url);
    expect((await browser.open(url)).status).toBe(400);
  });

  it.each([
    "https://evil.test/",
    "http://app.test/done",
    "https://app.test.evil.test/",
    "https://app.test@evil.test/",
    "https://evil.test\\@app.test/",
    "//app.test/",
    "javascript:alert(1)",
    "blob:https://app.test/2b1c",
    "/relative",
    "",
    "https://auth.test/",
    "https://auth.test/oauth/authorize?x",
    "https://open.test/",
  ])("is not an open redirector: 400 for redirect_url=%s", async (redirect_url) => {
    const browser = await stack.browser(alice);
    const answer = await browser.open(connectUrl({ redirect_url }));
    expect([answer.status, answer.location]).toEqual([400, undefined]);
    expect(upstream.seen).toEqual([]);
  });

  it.each([
    "https://mcp.test/somewhere",
    "https://app.test/",
    "https://auth.test/oauth/interaction/abc?step=upstream",
  ])("returns to %s", async (redirect_url) => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser, { redirect_url });
    const back = await browser.open(callbackUrl(upstream.agree(location)));
    expect(back.location?.href).toBe(redirect_url);
  });

  it("failed discovery, a user who denies, a user without access: connect_error", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser);
    const params = upstream.agree(location);
    params.delete("code");
    params.set("error", "access_denied");
    const refused = await browser.open(callbackUrl(params));
    expect(refused.location?.searchParams.get("connect_error")).toBe("access_denied");
    expect(refused.location?.searchParams.get("x")).toBe("1");
    upstream.metadata.code_challenge_methods_supported = [];
    stack.upstreamOAuth.forget(stack.route());
    const failed = await browser.connect(connectUrl());
    expect(failed.location?.origin).toBe("https://app.test");
    expect(failed.location?.searchParams.get("connect_error")).toBe("server_error");
    const mallory = await stack.browser("company/mallory");
    const denied = await mallory.open(connectUrl());
    expect(denied.location?.searchParams.get("connect_error")).toBe("access_denied");
  });

  it("connect_error says who denied, with which error code, but not the upstream's description", async () => {
    const browser = await stack.browser(alice);
    const failureOf = ({ location }: { location?: URL }) =>
      ["reason", "server", "status", "upstream"].map((name) =>
        location?.searchParams.get(`connect_error_${name}`),
      );
    const { host } = new URL(upstream.url);
    for (const [error, word] of [
      ["invalid_redirect_uri", "invalid_redirect_uri"],
      ["call us at once", null],
    ]) {
      upstream.on("/register", { status: 400, body: { error } });
      const refused = await browser.connect(connectUrl());
      expect(failureOf(refused)).toEqual(["registration_rejected", host, "400", word]);
    }
    upstream.on("/register", { status: 201, body: { client_id: "c" } });
    const { location } = await leave(browser);
    const params = upstream.agree(location, { error: "invalid_scope", error_description: "call us" });
    params.delete("code");
    const refused = await browser.open(callbackUrl(params));
    expect(failureOf(refused)).toEqual(["authorization_rejected", host, null, "invalid_scope"]);
  });

  it("the portal shows the discovery fault in the words of the documentation", async () => {
    const browser = await stack.browser(alice);
    const back = "https://auth.test/.pomerium/routes?connected=files";
    /** Whether the server requires a token is not known yet. */
    const other: Readonly<Record<string, string | undefined>> = {
      server_error: undefined,
      not_an_mcp_server: undefined,
    };
    for (const [code, { server = "{}", to, arrange }] of Object.entries(discoveryFaults)) {
      const faulty = await scriptedUpstream();
      arrange?.(faulty);
      await stack.reconfigure(
        `  - {${files}, name: Files, to: "${to ?? faulty.mcp}", mcp: {server: ${server}}}`,
      );
      const { location } = await browser.connect(connectUrl({ redirect_url: back }));
      expect([code, location?.origin]).toEqual([code, "https://auth.test"]);
      const page = await browser.open(String(location));
      const words = `Files was not connected: ${documentedFaults.get(code)?.words} (${code}).`;
      const said = parse(page.body).querySelector(".note.warn")?.text;
      expect([code, said]).toEqual([code, code in other ? other[code] : words]);
      await faulty.close();
    }
  });

  it("the portal shows the connection of a stored route that cannot be used, and disconnects it", async () => {
    const portal = "https://auth.test/.pomerium/routes";
    const { store } = stack;
    const kept = upstreamToken({ userId: alice, routeId: "stored", upstream: upstream.mcp });
    await store.upstreamTokens.put(kept, audit("upstream_token.obtained"));
    stack.useStored([], { unreadable: [{ id: "stored", place: "stored.test/" }], rejected: [] });
    const browser = await stack.browser(alice);
    const page = await browser.open(portal);
    const row = parse(page.body).querySelector("#server-stored");
    expect(row?.querySelector("h3")?.text.trim()).toBe("stored Unavailable");
    await browser.press(portal, { ...page, body: row?.toString() ?? "" }, "allow");
    expect(await store.upstreamTokens.list({ userId: alice })).toEqual([]);
    const [event] = await store.auditEvents({ limit: 10, action: "upstream_token.disconnected" });
    expect(event).toMatchObject({ userId: alice, routeId: "stored", reason: "disconnected by the user" });
  });

  it("signs in first; a flow of the authorization server only accepts the session that started it", async () => {
    const nobody = await stack.browser();
    const signIn = await nobody.open(connectUrl());
    expect(signIn.location?.href).toMatch(/^https:\/\/auth\.test\/\.pomerium\/sign_in\/handover/);
    const browser = await stack.browser(alice);
    // The flow started on the issuer's host, which does not ask again.
    const fits = await browser.open(connectUrl({ session: browser.parentName }));
    const confirmed = await browser.open(String(fits.location));
    expect(confirmed.location?.origin).toBe("https://mcp.test");
    expect((await browser.open(String(confirmed.location))).location?.origin).toBe(upstream.url);
    const other = await browser.open(connectUrl({ session: "somebody-elses" }));
    expect(other.location?.origin).toBe("https://auth.test");
    const again = await browser.open(connectUrl({ session: "somebody-elses", again: "1" }));
    expect(again.status).toBe(403);
  });

  it("popup=1 notifies the opener at its exact origin, and has a link to continue without scripts", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser, { popup: "1" });
    const back = await browser.open(callbackUrl(upstream.agree(location)));
    expect(back.status).toBe(200);
    const page = parse(back.body);
    expect(page.querySelector("#done")?.getAttribute("data-origin")).toBe("https://app.test");
    expect(page.querySelector("#done a")?.getAttribute("href")).toBe(done);
    expect(back.headers["cross-origin-opener-policy"]).toBeUndefined();
    const script = /script-src (\S+)/.exec(back.headers["content-security-policy"] ?? "")?.[1] ?? "";
    expect((await browser.open(script)).body).toContain("postMessage");
  });

  it("our client document exists on hosts with a discovered server, 404 on others", async () => {
    const browser = await stack.browser();
    const answer = await browser.open(`${clientBase}/client/metadata.json`);
    expect(JSON.parse(answer.body).client_id).toBe(`${clientBase}/client/metadata.json`);
    expect(answer.headers["access-control-allow-origin"]).toBe("*");
    expect((await browser.open("https://open.test/.pomerium/mcp/client/metadata.json")).status).toBe(404);
  });

  it("so do the document of our confidential client and its public keys, never the private ones", async () => {
    const browser = await stack.browser();
    const document = JSON.parse((await browser.open(`${clientBase}/client/confidential.json`)).body);
    expect(document).toMatchObject({
      client_id: `${clientBase}/client/confidential.json`,
      token_endpoint_auth_method: "private_key_jwt",
      token_endpoint_auth_signing_alg: "ES256",
      jwks_uri: `${clientBase}/client/jwks.json`,
    });
    const answer = await browser.open(document.jwks_uri);
    const members = JSON.parse(answer.body).keys.map((key: object) => Object.keys(key).sort());
    expect(members).toEqual([["alg", "crv", "kid", "kty", "use", "x", "y"]]);
    expect(answer.headers["cache-control"]).toBe("public, max-age=300");
    expect((await browser.open("https://open.test/.pomerium/mcp/client/confidential.json")).status).toBe(404);
  });

  it("a host without a server to connect, or a disabled route, is 400", async () => {
    const browser = await stack.browser(alice);
    expect((await browser.open(connectUrl({ route: "open" }))).status).toBe(400);
    expect((await browser.open(connectUrl({ route: "nobody" }))).status).toBe(400);
    await stack.reconfigure(`
  - {${files}, to: ${upstream.mcp}, enabled: false, mcp: {server: {}}}
  - {id: app, from: https://app.test, to: ${upstream.url}/app, mcp: {client: {}}}`);
    expect((await browser.open(connectUrl({ route: "files" }))).status).toBe(400);
  });

  it.each([
    ["disabled", (mcp: string) => `  - {${files}, to: ${mcp}, enabled: false, mcp: {server: {}}}`],
    [
      "removed",
      (mcp: string) => `  - {id: other, from: https://mcp.test/other, to: ${mcp}, mcp: {server: {}}}`,
    ],
    ["moved to another upstream", (mcp: string) => `  - {${files}, to: ${mcp}2, mcp: {server: {}}}`],
  ])(
    "a route is %s during an authorization flow: the callback reports it and stores nothing",
    async (_how, changed) => {
      const app = `\n  - {id: app, from: https://app.test, to: ${upstream.url}/app, mcp: {client: {}}}`;
      const browser = await stack.browser(alice);
      const { location } = await leave(browser);
      const { location: inPopup } = await leave(browser, { popup: "1" });
      await stack.reconfigure(changed(upstream.mcp) + app);
      const url = callbackUrl(upstream.agree(location));
      const back = await browser.open(url);
      expect(back.status).toBe(302);
      expect(back.location?.origin).toBe("https://app.test");
      expect(back.location?.searchParams.get("connect_error")).toBe("invalid_request");
      expect(back.location?.searchParams.get("connect_error_description")).toContain("removed or moved");
      const popup = await browser.open(callbackUrl(upstream.agree(inPopup)));
      expect(popup.status).toBe(200);
      expect(parse(popup.body).querySelector("h1")?.text).toBe("Not connected");
      expect(popup.body).toContain("removed or moved");
      // The code was not redeemed, and retrying after the route is back does not help.
      expect(upstream.tokenRequests).toEqual([]);
      await stack.reconfigure(`  - {${files}, to: ${upstream.mcp}, mcp: {server: {}}}${app}`);
      expect((await browser.open(url)).status).toBe(400);
      expect(upstream.tokenRequests).toEqual([]);
      expect(await rowsOf(stack.store.upstreamTokens.pages({}))).toEqual([]);
    },
  );

  it("neither caches nor the next site learn the code", async () => {
    const browser = await stack.browser(alice);
    const { location } = await leave(browser);
    const back = await browser.open(callbackUrl(upstream.agree(location)));
    expect(back.headers["cache-control"]).toBe("no-store");
    expect(back.headers["referrer-policy"]).toBe("no-referrer");
  });
});
