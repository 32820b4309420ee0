import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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
  const offer = await browser.agree(await browser.open(codePage), (origin) => stack.signIn(user)(origin));
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
const csrfOf = ({ html }: Page) => /name="csrf" value="([^"]+)"/.exec(html)?.[1] ?? "";

describe("a one-time code", () => {
  test("signs an administrator in on the private port, in another browser, too, and only once", async () => {
    const atGateway = newBrowser();
    const code = await codeOf("alice", atGateway);
    expect(code).toMatch(/^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$/);
    const atPort = newBrowser();
    const overview = await enter(atPort, code.toLowerCase().replaceAll("-", " "));
    expect(overview.url.pathname).toBe("/admin/");
    expect(overview.html).toContain("Administrator");
    expect(await enter(newBrowser(), code)).toMatchObject({ status: 403 });
  });
});
