import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type E2e, startE2e, type User } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";
import { oauthRequests } from "../support/oauth-requests.ts";

const web = "https://editor.test/callback";
const loopback = "http://127.0.0.1:7777/callback";
const oneDay = 86_400;

let stack: E2e;
let oauth: ReturnType<typeof oauthRequests>;

beforeAll(async () => {
  stack = await startE2e({
    config: (config) => ({
      ...config,
      authorization_server: {
        consent_ttl: `${oneDay}s`,
        clients: [
          { client_id: "known", client_name: "Known", client_secret: "known-secret", redirect_uris: [web] },
        ],
      },
    }),
  });
  oauth = oauthRequests(stack);
});
afterAll(() => stack?.close());

/** A browser that stops before it would reach an MCP client or a foreign host. */
function freshBrowser(): HttpBrowser {
  const ours = new Set([stack.urls.issuer, stack.openid.issuer, ...hosts()]);
  return httpBrowser({ fetch: stack.fetch, stopAt: (url) => !ours.has(url.origin) });
}
const hosts = () =>
  [stack.urls.everything, stack.urls.open, stack.upstream.issuer].map((url) => new URL(url).origin);

/** The person signs in and clicks every "Allow". */
async function allow(browser: HttpBrowser, user: User, url: URL) {
  const page = await browser.agree(await browser.open(url), stack.signIn(user));
  expect(page.url.searchParams.get("code"), page.html).toBeTruthy();
  return page;
}

const asks = ({ html }: { html: string }) => html.includes('value="allow"');

describe("a consent covers only what the person has seen", () => {
  test("another program on another loopback port does not get a code without consent", async () => {
    const client = await oauth.register([loopback]);
    const browser = freshBrowser();
    await allow(browser, "alice", oauth.ask(client, loopback).url);
    const page = await browser.open(oauth.ask(client, "http://127.0.0.1:9999/callback").url);
    expect(page.url.searchParams.has("code")).toBe(false);
    expect(asks(page)).toBe(true);
    const silent = oauth.ask(client, "http://127.0.0.1:9999/callback", { prompt: "none" });
    expect((await browser.open(silent.url)).url.searchParams.get("error")).toBe("consent_required");
  });

  test("another app with the same scheme does not get a code without consent", async () => {
    const client = await oauth.register(["com.example.editor:/callback"]);
    const browser = freshBrowser();
    await allow(browser, "alice", oauth.ask(client, "com.example.editor:/callback").url);
    const page = await browser.open(oauth.ask(client, "com.example.editor:/callback").url);
    expect(asks(page)).toBe(true);
  });

  test("another redirect URI of the same client does not get a code without consent", async () => {
    const other = "https://editor.test/other";
    const client = await oauth.register([web, other, loopback]);
    const browser = freshBrowser();
    await allow(browser, "alice", oauth.ask(client, web).url);
    // It is valid for the redirect URI the person has agreed to.
    expect((await browser.open(oauth.ask(client, web).url)).url.searchParams.get("code")).toBeTruthy();
    for (const redirectUri of [other, loopback])
      expect(asks(await browser.open(oauth.ask(client, redirectUri).url))).toBe(true);
  });
});

test.each(["fragment", "form_post"])(
  "a link requests the code of an allowed client in a mode that the client does not expect: no code by %s",
  async (mode) => {
    const client = await oauth.register([web]);
    const browser = freshBrowser();
    await allow(browser, "alice", oauth.ask(client, web).url);
    const page = await browser.open(oauth.ask(client, web, { response_mode: mode }).url);
    expect(page.url.href).not.toContain("code=");
    expect(page.html).not.toContain('name="code"');
    expect(page.url.href + page.html).toContain("invalid_request");
  },
);

describe("errors do not redirect to a host that only a client has named", () => {
  const attackers = "https://attacker.test/company-sign-in";

  test.each([
    ["an unknown resource", { resource: "https://nothing.test" }],
    ["prompt=none", { prompt: "none" }],
    ["no PKCE", { code_challenge: "", code_challenge_method: "" }],
    ["an unknown response type", { response_type: "token" }],
    ["a self-submitting form", { resource: "https://nothing.test", response_mode: "form_post" }],
    ["a fragment", { resource: "https://nothing.test", response_mode: "fragment" }],
  ])(
    "open redirect by self-registration, without a sign-in: %s",
    async (_name, changes: Record<string, string>) => {
      const client = await oauth.register([attackers]);
      const page = await freshBrowser().open(oauth.ask(client, attackers, changes).url);
      expect([page.url.origin, page.status]).toEqual([stack.urls.issuer, 400]);
      expect(page.headers.get("location")).toBe(null);
      expect(page.html).not.toContain("attacker.test");
      expect(page.html).toContain("Request id");
    },
  );

  test("open redirect by self-registration, signed in as a person who never allowed the client", async () => {
    const browser = freshBrowser();
    await allow(browser, "alice", oauth.ask(await oauth.register([web]), web).url);
    const client = await oauth.register([attackers]);
    const page = await browser.open(oauth.ask(client, attackers, { resource: "https://nothing.test" }).url);
    expect([page.url.origin, page.status]).toEqual([stack.urls.issuer, 400]);
  });

  test("text from a request is not repeated on the gateway's page", async () => {
    const client = await oauth.register([attackers]);
    const resource = "x:Your account is locked, call +1 555 0100";
    const page = await freshBrowser().open(oauth.ask(client, attackers, { resource }).url);
    expect(page.html).not.toContain("555 0100");
  });

  test("errors are returned to a client that the person has allowed or denied, or that the operator configured", async () => {
    const client = await oauth.register([web]);
    const browser = freshBrowser();
    const bad = { resource: "https://nothing.test" };
    const refused = await browser.open(oauth.ask(client, web).url);
    const page = await signInOnly(browser, refused);
    const denied = await browser.submit(page, {}, "decision=deny");
    expect(denied.url.searchParams.get("error")).toBe("access_denied");
    await allow(browser, "alice", oauth.ask(client, web).url);
    const back = await browser.open(oauth.ask(client, web, bad).url);
    expect([back.url.origin, back.url.searchParams.get("error")]).toEqual([
      "https://editor.test",
      "invalid_target",
    ]);
    const known = await freshBrowser().open(oauth.ask("known", web, bad).url);
    expect(known.url.searchParams.get("error")).toBe("invalid_target");
  });
});

/** Through the company's pages to the gateway's. */
async function signInOnly(browser: HttpBrowser, start: Awaited<ReturnType<HttpBrowser["open"]>>) {
  let page = start;
  while (page.url.origin === stack.openid.issuer) {
    const fields = page.html.includes('name="password"') ? stack.signIn("alice")(page.url.origin) : {};
    page = await browser.submit(
      page,
      { ...fields },
      page.html.includes('name="password"') ? undefined : "decision=allow",
    );
  }
  return page;
}

describe("the consent page cannot be manipulated", () => {
  test("a client's text in a scope is neither shown nor granted", async () => {
    const client = await oauth.register([web]);
    const browser = freshBrowser();
    const scope = "mcp Checked_by_your_IT_department:_safe files:everything";
    const asked = oauth.ask(client, web, { scope });
    const page = await signInOnly(browser, await browser.open(asked.url));
    expect(asks(page)).toBe(true);
    expect(page.html).not.toContain("IT_department");
    expect(page.html).not.toContain("files:everything");
    const end = await browser.submit(page, {}, "decision=allow");
    expect(await oauth.redeem(asked, end.url)).toMatchObject({ scope: "mcp" });
  });

  test("a client that requests only unknown scopes gets mcp, and the response says so", async () => {
    const client = await oauth.register([web]);
    const asked = oauth.ask(client, web, { scope: "files:everything openid" });
    const end = await allow(freshBrowser(), "alice", asked.url);
    expect(await oauth.redeem(asked, end.url)).toMatchObject({ scope: "mcp" });
  });

  test("the scopes that the operator configured for the upstream can be requested", async () => {
    const client = await oauth.register([web]);
    const asked = oauth.ask(client, web, {
      scope: "mcp:read files:everything",
      resource: stack.urls.everything,
    });
    const end = await allow(freshBrowser(), "alice", asked.url);
    expect(await oauth.redeem(asked, end.url)).toMatchObject({ scope: "mcp:read" });
  });

  test("a client's name cannot reverse or hide the page's text, or inject markup", async () => {
    const name =
      "\u202Erotide\u202C\u200B\n\nVerified\u2066 by\u0007 IT\u{E0041}<b>!</b> Z\u0301\u0301\u0301\u0301\u0301\u0301";
    const client = await oauth.register([web], { client_name: name });
    const browser = freshBrowser();
    const page = await signInOnly(browser, await browser.open(oauth.ask(client, web).url));
    expect(page.html).toContain(
      "<bdi>rotide Verified by IT&#60;b&#62;!&#60;/b&#62; Z\u0301\u0301\u0301</bdi>",
    );
  });

  test("a lookalike redirect host is shown in its true form", async () => {
    const lookalike = "https://аpple.test/callback";
    const client = await oauth.register([lookalike]);
    const browser = freshBrowser();
    const page = await signInOnly(browser, await browser.open(oauth.ask(client, lookalike).url));
    expect(page.html).toContain("<strong>xn--pple-43d.test</strong>");
  });
});
