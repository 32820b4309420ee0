import { randomBytes } from "node:crypto";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { signingKeyPurposes } from "../../src/store/signing-keys.ts";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser, type Page } from "../support/http-browser.ts";

const token = randomBytes(32).toString("base64url");
const codePage = "https://auth.test/.pomerium/admin";

let stack: E2e;

beforeAll(async () => {
  stack = await startE2e({
    config: (config) => ({
      ...config,
      admin_api: {
        admin_tokens: [token],
        admins: { allow: { or: [{ user: "company/alice" }] } },
        viewers: { allow: { or: [{ user: "company/bob" }] } },
      },
    }),
  });
});
afterAll(() => stack?.close());

/** A browser that is not signed in anywhere. */
const newBrowser = () => httpBrowser({ fetch: stack.fetch });

/** Signs in at the company, and gets a code. */
async function codeOf(user: "alice" | "bob", browser: HttpBrowser): Promise<string> {
  const offer = await browser.agree(await browser.open(codePage), stack.signIn(user));
  return codeIn(offer);
}
function codeIn(page: Page): string {
  const code = /<p class="code mono">([^<]+)/.exec(page.html)?.[1];
  if (code === undefined)
    throw new Error(`no code at ${page.url.href} (${page.status}): ${page.html.slice(-800)}`);
  return code;
}
const enter = async (browser: HttpBrowser, code: string): Promise<Page> =>
  browser.submit(await browser.open(`${stack.adminUrl}/admin/`), { code });
async function signedIn(user: "alice" | "bob"): Promise<HttpBrowser> {
  const browser = newBrowser();
  const page = await enter(browser, await codeOf(user, browser));
  expect(page).toMatchObject({ status: 200 });
  return browser;
}
/** Alice's session for all tests that do not end it: a user gets only so many codes in an hour. */
let alice: Promise<HttpBrowser> | undefined;
function ofAlice(): Promise<HttpBrowser> {
  alice ??= signedIn("alice");
  return alice;
}
const csrfOf = ({ html }: Page) => /name="csrf" value="([^"]+)"/.exec(html)?.[1] ?? "";

/** A request as a browser sends it, or as an attacker makes it send one. `fetch` would set `Host` itself. */
function raw(
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; headers: Record<string, unknown>; text: string }> {
  const { method = "GET", headers = {}, body } = options;
  return new Promise((resolve, reject) => {
    const sent = request(`${stack.adminUrl}${path}`, { method, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(chunks).toString(),
        }),
      );
    });
    sent.on("error", reject);
    sent.end(body);
  });
}
const cookieOf = (browser: HttpBrowser) => browser.jar.getCookieString(`${stack.adminUrl}/admin/`);
const form = { "content-type": "application/x-www-form-urlencoded" };

/** Posts to a path of the page, as a button there does. */
async function press(browser: HttpBrowser, path: string, fields: Record<string, string> = {}) {
  const csrf = csrfOf(await browser.open(`${stack.adminUrl}/admin/`));
  return raw(`/admin/${path}`, {
    method: "POST",
    headers: { ...form, origin: stack.adminUrl, cookie: await cookieOf(browser) },
    body: new URLSearchParams({ csrf, ...fields }).toString(),
  });
}

async function auditOf(action: string): Promise<Record<string, unknown>[]> {
  const response = await fetch(
    `${stack.adminUrl}/admin/v1/audit?action=${action}&until=2100-01-01T00:00:00Z`,
    { headers: { authorization: `Bearer ${token}` } },
  );
  const lines = (await response.text()).trim().split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line));
}

describe("a one-time code", () => {
  test("signs an administrator in on the private port, in another browser, too, and only once", async () => {
    const code = await codeOf("alice", newBrowser());
    expect(code).toMatch(/^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$/);
    const atPort = newBrowser();
    const overview = await enter(atPort, code.toLowerCase().replaceAll("-", " "));
    expect(overview.url.pathname).toBe("/admin/");
    expect(overview.html).toContain("Administrator");
    expect(await enter(newBrowser(), code)).toMatchObject({ status: 403 });
    expect((await auditOf("admin.signed_in")).at(-1)).toMatchObject({
      actor: "user:company/alice",
      user_id: "company/alice",
    });
  });

  test("can be used once, even if it is entered in many browsers at the same time", async () => {
    const code = await codeOf("alice", newBrowser());
    const entered = await Promise.all(
      Array.from({ length: 5 }, () =>
        raw("/admin/sign-in", {
          method: "POST",
          headers: { ...form, origin: stack.adminUrl },
          body: `code=${code}`,
        }),
      ),
    );
    expect(entered.map(({ status }) => status).toSorted()).toEqual([303, 403, 403, 403, 403]);
  });

  test("is created by a form of this browser only, on a page that is neither cached nor framed", async () => {
    const browser = newBrowser();
    const offer = await browser.agree(await browser.open(codePage), stack.signIn("alice"));
    expect(offer.headers.get("cache-control")).toBe("no-store");
    expect(offer.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    const again = await browser.open(codePage);
    expect(again.html).not.toContain('class="code');
    const forged = await browser.submit(again, { csrf: "A".repeat(43) });
    expect(forged).toMatchObject({ status: 403 });
    expect(forged.html).not.toContain('class="code');
  });

  test("replaces the earlier one of its browser session", async () => {
    const browser = newBrowser();
    const first = await codeOf("alice", browser);
    const second = codeIn(await browser.submit(await browser.open(codePage), {}));
    expect(await enter(newBrowser(), first)).toMatchObject({ status: 403 });
    expect(await enter(newBrowser(), second)).toMatchObject({ status: 200 });
  });

  test("is worth nothing after its user has signed out", async () => {
    const browser = newBrowser();
    const code = await codeOf("alice", browser);
    await browser.submit(await browser.open("https://auth.test/.pomerium/sign_out"), {});
    expect(await enter(newBrowser(), code)).toMatchObject({ status: 403 });
  });
});

describe("a session of the admin page", () => {
  test("ends when its user signs out at the gateway", async () => {
    const browser = newBrowser();
    await enter(browser, await codeOf("alice", browser));
    expect((await browser.open(`${stack.adminUrl}/admin/`)).html).toContain("Administrator");
    await browser.submit(await browser.open("https://auth.test/.pomerium/sign_out"), {});
    expect((await browser.open(`${stack.adminUrl}/admin/`)).url.pathname).toBe("/admin/sign-in");
  });

  test("has an HttpOnly cookie for the admin page only, which no other site's request carries", async () => {
    const browser = await signedIn("alice");
    const [cookie] = await browser.jar.getCookies(`${stack.adminUrl}/admin/`);
    expect(cookie).toMatchObject({ key: "mcp_admin", httpOnly: true, sameSite: "strict", path: "/admin" });
    const left = (cookie?.expiryTime() ?? 0) - Date.now();
    expect(left).toBeGreaterThan(7.9 * 3_600_000);
    expect(left).toBeLessThanOrEqual(8 * 3_600_000);
  });

  test("has a new id after sign-in: a planted one is not taken over", async () => {
    const planted = "A".repeat(43);
    const browser = newBrowser();
    await browser.jar.setCookie(`mcp_admin=${planted}; Path=/admin`, `${stack.adminUrl}/admin/`);
    await enter(browser, await codeOf("alice", newBrowser()));
    expect(await cookieOf(browser)).not.toContain(planted);
    const { status } = await raw("/admin/", { headers: { cookie: `mcp_admin=${planted}` } });
    expect(status).toBe(302);
  });

  test("ends with the sign-out button, and its cookie is worth nothing then", async () => {
    const browser = await signedIn("alice");
    const cookie = await cookieOf(browser);
    await browser.submit(await browser.open(`${stack.adminUrl}/admin/`), {});
    expect(await raw("/admin/", { headers: { cookie } })).toMatchObject({ status: 302 });
    expect((await auditOf("admin.signed_out")).at(-1)).toMatchObject({ actor: "user:company/alice" });
  });
});

describe("another site", () => {
  test("cannot reach the page under its own name by DNS rebinding", async () => {
    const cookie = await cookieOf(await ofAlice());
    const { status, text } = await raw("/admin/", { headers: { cookie, host: "evil.example:9090" } });
    expect(status).toBe(403);
    expect(text).toContain("unknown_host");
    expect(text).not.toContain("Administrator");
  });

  test.each([
    ["another site", { origin: "https://evil.example", "sec-fetch-site": "cross-site" }],
    ["another port of the same host", { origin: "http://127.0.0.1:1", "sec-fetch-site": "same-site" }],
    ["another port, from a browser without Fetch Metadata", { origin: "http://127.0.0.1:1" }],
    ["a sandboxed page", { origin: "null" }],
    ["a program without an origin", {}],
  ])("cannot post with the person's cookie: %s", async (_who, headers) => {
    const browser = await ofAlice();
    const page = await browser.open(`${stack.adminUrl}/admin/service-accounts`);
    const body = `csrf=${csrfOf(page)}&name=stolen&routes=open&days=1`;
    const sent = await raw("/admin/service-accounts", {
      method: "POST",
      headers: { ...form, ...headers, cookie: await cookieOf(browser) },
      body,
    });
    expect(sent.status).toBe(403);
    expect(sent.text).toContain("cross_site");
    expect((await browser.open(`${stack.adminUrl}/admin/service-accounts`)).html).not.toContain("stolen");
  });

  test("cannot post without the session's form token, even from the same origin", async () => {
    const browser = await ofAlice();
    const other = csrfOf(await (await signedIn("bob")).open(`${stack.adminUrl}/admin/`));
    for (const csrf of ["", "A".repeat(43), other]) {
      const sent = await raw("/admin/service-accounts", {
        method: "POST",
        headers: { ...form, origin: stack.adminUrl, cookie: await cookieOf(browser) },
        body: `csrf=${csrf}&name=stolen&routes=open&days=1`,
      });
      expect(sent.status).toBe(403);
      expect(sent.text).toContain("csrf");
    }
  });
});

describe("viewers", () => {
  test("read overview and routes without upstreams and settings, and can change nothing", async () => {
    const browser = await signedIn("bob");
    const overview = await browser.open(`${stack.adminUrl}/admin/`);
    expect(overview.html).toContain("Viewer");
    expect(overview.html).not.toContain("Problems");
    const route = await browser.open(`${stack.adminUrl}/admin/routes/open`);
    expect(route.status).toBe(200);
    expect(route.html).not.toContain(new URL(stack.open.url).host);
    const cookie = await cookieOf(browser);
    for (const path of ["connections", "grants", "service-accounts", "keys", "new-route", "routes/open/edit"])
      expect(await raw(`/admin/${path}`, { headers: { cookie } }), path).toMatchObject({ status: 403 });
    for (const path of [
      "new-route",
      "routes/open/edit",
      "routes/open/enabled",
      "routes/open/delete",
      "routes/open/doctor",
      "connections/revoke",
      "grants/revoke",
      "service-accounts",
      "service-accounts/revoke",
      "keys/rotate",
    ]) {
      const sent = await raw(`/admin/${path}`, {
        method: "POST",
        headers: { ...form, origin: stack.adminUrl, cookie },
        body: `csrf=${csrfOf(overview)}&confirm=yes`,
      });
      expect(sent.status, path).toBe(403);
    }
  });
});

describe("the administration", () => {
  test("answers nobody who is not signed in", async () => {
    for (const path of ["", "routes", "routes/open", "connections", "grants", "service-accounts", "keys"]) {
      const answer = await raw(`/admin/${path}`);
      expect([path, answer.status, answer.headers.location]).toEqual([path, 302, "/admin/sign-in"]);
    }
  });

  test("creates, changes, disables and deletes a stored route as the admin API does, and records who", async () => {
    const browser = await ofAlice();
    const at = (path: string) => browser.open(`${stack.adminUrl}/admin/${path}`);
    const entered = {
      ...{ id: "added", name: "Added", from: "https://added.test", to: "http://127.0.0.1:9/mcp" },
      auth: "settings",
      settings: "mcp:\n  server:\n    upstream_auth: {api_key: {header: x-key, value: key-that-stays}}",
    };
    const created = await browser.submit(await at("new-route"), entered);
    expect(created.url.pathname).toBe("/admin/routes/added");
    expect(created.html).toContain("The route is created");
    expect(created.html).not.toContain("key-that-stays");

    const opened = await at("routes/added/edit");
    expect(settingsIn(opened)).not.toContain("key-that-stays");
    const invalid = await browser.submit(opened, { from: "http://added.test" });
    expect(invalid.status).toBe(400);
    expect(invalid.html).toMatch(/Nothing was changed.*http: is for localhost only/s);

    const edit = await at("routes/added/edit");
    const settings = settingsIn(edit).replace("name: Added", "name: Added twice");
    expect((await browser.submit(edit, { settings, name: "Added" })).html).toContain("Added twice");
    expect((await browser.submit(edit, { settings })).status).toBe(412);

    await browser.submit(await at("routes/added"), { enabled: "no" });
    expect((await at("routes/added")).html).toContain("Disabled");
    expect((await press(browser, "routes/added/delete")).status).toBe(400);
    await browser.submit(await at("routes/added"), { confirm: "yes" });
    expect((await at("routes/added")).status).toBe(404);

    for (const [action, count] of [
      ["route.created", 1],
      ["route.changed", 2],
      ["route.deleted", 1],
    ] as const) {
      const events = (await auditOf(action)).filter(({ route_id }) => route_id === "added");
      expect(events.map(({ actor }) => actor)).toEqual(Array(count).fill("user:company/alice"));
    }
  });

  test("filters routes, and shows a route of the file without buttons that change it", async () => {
    const browser = await ofAlice();
    const list = await browser.open(`${stack.adminUrl}/admin/routes?q=OPEN&source=file`);
    expect(list.html).toContain('href="/admin/routes/open"');
    expect(list.html).not.toContain('href="/admin/routes/everything"');
    const file = await browser.open(`${stack.adminUrl}/admin/routes/open`);
    expect(file.html).toContain("defined in the routes file");
    expect(file.html).not.toContain("/admin/routes/open/delete");
    const report = await press(browser, "routes/open/doctor");
    expect(report.text).toContain("users can use this route as it is");
  });

  test("revokes a connection and a grant, as the command line does, and records who", async () => {
    const client = await stack.client("bob");
    await (await client.connect()).callTool({ name: "whoami", arguments: {} });
    const browser = await ofAlice();
    const connections = await browser.open(`${stack.adminUrl}/admin/connections?user=company/bob`);
    const revoked = await browser.submit(connections, { upstream: upstreamIn(connections) });
    expect(revoked.html).toContain("The connection is deleted");
    const grants = await browser.open(`${stack.adminUrl}/admin/grants?user=company/bob`);
    // What the client calls itself, which its user has seen.
    expect(grants.html).toContain("<bdi>Demo MCP client</bdi>");
    const listed = await stack.command("grants", "list", "--user", "company/bob", "--json");
    expect(JSON.parse(listed.split("\n")[0] ?? "")).toMatchObject({
      client_name: "Demo MCP client",
      route_ids: ["everything"],
    });
    const ended = await browser.submit(grants, { grant: hiddenValue(grants, "grant") });
    expect(ended.html).toContain("The grant is revoked");
    for (const action of ["upstream_token.disconnected", "grant.revoked"])
      expect((await auditOf(action)).at(-1)).toMatchObject({
        user_id: "company/bob",
        actor: "user:company/alice",
      });
  });

  test("creates a service account whose token works and is shown once, and revokes it", async () => {
    const browser = await ofAlice();
    const at = () => browser.open(`${stack.adminUrl}/admin/service-accounts`);
    const made = await browser.submit(await at(), { name: "nightly", routes: "open", days: "1" });
    const secret = /<dd class="mono">(eyJ[\w.-]+)/.exec(made.html)?.[1] ?? "";
    expect(secret).not.toBe("");
    const listed = await at();
    expect(listed.html).toContain("nightly");
    expect(listed.html).not.toContain(secret);
    const twice = await browser.submit(listed, { name: "nightly", routes: "open", days: "1" });
    expect(twice.html).toContain("already exists");
    const unknown = await browser.submit(listed, { name: "other", routes: "nowhere", days: "1" });
    expect([unknown.status, unknown.html.includes("no such server route")]).toEqual([400, true]);
    const sent = await press(browser, "service-accounts/revoke", { name: "nightly" });
    expect(sent.status).toBe(303);
    for (const action of ["service_account.created", "service_account.revoked"])
      expect((await auditOf(action)).at(-1)).toMatchObject({ actor: "user:company/alice" });
  });

  test("rotates a signing key only if the box is ticked, and records who", async () => {
    const browser = await ofAlice();
    const keys = await browser.open(`${stack.adminUrl}/admin/keys`);
    const shown = (page: Page) => page.html.match(/Signing<\/span>|Published<\/span>/g)?.length ?? 0;
    expect(shown(keys)).toBe(signingKeyPurposes.length);
    const offered = [...keys.html.matchAll(/name="purpose" value="([^"]+)"/g)].map(([, purpose]) => purpose);
    expect(offered).toEqual([...signingKeyPurposes]);
    const before = (await auditOf("signing_key.rotated")).length;
    expect(await browser.submit(keys, { purpose: "assertion" })).toMatchObject({ status: 400 });
    expect(await auditOf("signing_key.rotated")).toHaveLength(before);
    const rotated = await browser.submit(keys, { purpose: "assertion", confirm: "yes" });
    expect(shown(rotated)).toBe(signingKeyPurposes.length + 1);
    expect((await auditOf("signing_key.rotated")).at(-1)).toMatchObject({
      actor: "user:company/alice",
      detail: { purpose: "assertion" },
    });
  });

  test("rotates the key of the audit record, and revokes no older key, even if a forged form asks for it", async () => {
    const browser = await ofAlice();
    const keys = await browser.open(`${stack.adminUrl}/admin/keys`);
    expect(keys.html).not.toContain("revoke_old");
    const before = (await auditOf("signing_key.rotated")).length;
    const asked = { purpose: "audit", confirm: "yes", revoke_old: "yes" };
    expect(await press(browser, "keys/rotate", asked)).toMatchObject({ status: 400 });
    expect(await auditOf("signing_key.rotated")).toHaveLength(before);
    const rotated = await browser.submit(keys, { purpose: "audit", confirm: "yes" });
    const section = /<section aria-labelledby="audit">.*?<\/section>/s.exec(rotated.html)?.[0] ?? "";
    const states = [...section.matchAll(/(Signing|Published|Verifying)<\/span>/g)].map(([, state]) => state);
    expect(states).toEqual(["Published", "Signing"]);
    expect(section).toContain("still verify the checkpoints");
    expect((await auditOf("signing_key.rotated")).at(-1)).toMatchObject({ detail: { purpose: "audit" } });
  });

  test("shows the replicas, with their versions", async () => {
    const browser = await ofAlice();
    const overview = await browser.open(`${stack.adminUrl}/admin/`);
    expect(overview.html).toMatch(/Running<\/span>.*Version<\/dt><dd>\d+\.\d+\.\d+/s);
  });
});

describe("limits", () => {
  test("a user gets at most 20 codes in an hour", async () => {
    const browser = newBrowser();
    await codeOf("bob", browser);
    let codes = 0;
    for (let page: Page | undefined; codes < 25; codes += 1) {
      page = await browser.submit(await browser.open(codePage), {});
      if (page.status === 429) break;
    }
    expect(codes).toBeLessThan(20);
    expect(await (await fetch(`${stack.adminUrl}/metrics`)).text()).toContain('limit="admin_codes"');
  });

  test("an address may enter at most 30 codes in a quarter of an hour, right or wrong", async () => {
    const guess = () =>
      raw("/admin/sign-in", {
        method: "POST",
        headers: { ...form, origin: stack.adminUrl },
        body: "code=0000-0000-0000-0000",
      });
    let status = 0;
    for (let guesses = 0; guesses < 31 && status !== 429; guesses += 1) ({ status } = await guess());
    expect(status).toBe(429);
    expect(await enter(newBrowser(), "0000-0000-0000-0000")).toMatchObject({ status: 429 });
    expect(await (await fetch(`${stack.adminUrl}/metrics`)).text()).toContain('limit="admin_code_attempts"');
  });
});

const hiddenValue = ({ html }: Page, name: string) =>
  new RegExp(`name="${name}" value="([^"]+)"`).exec(html)?.[1] ?? "";
const upstreamIn = (page: Page) => hiddenValue(page, "upstream");
const settingsIn = ({ html }: Page) => /<textarea[^>]*>\n?([^<]*)/.exec(html)?.[1] ?? "";
