import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type { Browser, Page } from "playwright-core";
import { browser } from "../../../../dev/demo/browser.ts";
import { listen } from "../../../../dev/demo/listen.ts";
import type { E2e } from "../../../support/e2e.ts";

/** Alice in Chromium. */
export interface Person {
  /** A folder to put first on PATH: its commands replace the system's commands for opening a browser. */
  readonly bin: string;
  /**
   * Goes from `url` through sign-in and every consent to the client's own page, in a browser without cookies. The same URL again returns
   * the same result.
   * @returns where the browser ended
   * @throws Error with the page's text if a page cannot be passed
   */
  walk(url: string): Promise<URL>;
  /** Opens every authorization URL in `text`, a client's output. @returns where the last one ended */
  walkAll(text: string): Promise<URL | undefined>;
  /** A page in a browser without cookies, which is closed afterwards. */
  withPage<T>(use: (page: Page) => Promise<T>): Promise<T>;
  /** As `walk`, on a page that shows a form. */
  passForms(page: Page): Promise<URL>;
  /** Whether the servers of an aggregated route are left for later. */
  skipsServers: boolean;
  /** Number of opened URLs. */
  readonly authorizations: number;
  close(): Promise<void>;
}

const openers = ["xdg-open", "open", "sensible-browser", "x-www-browser", "www-browser", "wslview"];

/**
 * Starts Chromium.
 * @param folder for the commands that clients open a browser with
 */
export async function person(
  stack: Pick<E2e, "openid" | "ca" | "signIn" | "urls" | "resolve">,
  folder: string,
): Promise<Person> {
  const chrome: Browser = await browser({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
  const signIn = stack.signIn("alice");
  const gateway = new URL(stack.urls.issuer).origin;
  const authorizations = new Map<string, Promise<URL>>();

  async function withPage<T>(use: (page: Page) => Promise<T>): Promise<T> {
    const context = await chrome.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    try {
      return await use(page);
    } finally {
      await context.close();
    }
  }
  async function passForms(page: Page): Promise<URL> {
    for (let forms = 0; forms < 12; forms += 1) {
      await page.waitForLoadState("load");
      const at = new URL(page.url());
      const password = page.locator("input[name=password]");
      const yes = page
        .locator('button[name="decision"][value="allow"], button[value="approve"]')
        .or(page.getByRole("button", { name: /^(Allow|Approve|Connect|Continue)\b/ }));
      const hasPassword = (await password.count()) > 0;
      if (!hasPassword && (await yes.count()) === 0) {
        if (at.origin !== gateway || at.pathname.endsWith("/mcp/consent/done")) return at;
        throw new Error(`the person is stuck at ${at.href}: ${await page.locator("body").innerText()}`);
      }
      if (hasPassword) {
        const login = signIn(at.origin);
        if (!login) throw new Error(`nobody knows how to sign in at ${at.origin}`);
        await page.fill("input[name=login]", login.login);
        await password.fill(login.password);
      }
      const later = page.locator('button[name="decision"][value="continue"]');
      const forward = made.skipsServers && (await later.count()) > 0 ? later : yes.first();
      const button = hasPassword ? page.locator('button[type="submit"]').first() : forward;
      await Promise.all([page.waitForEvent("load"), button.click()]);
    }
    throw new Error(`still on a form after twelve: ${page.url()}`);
  }
  const go = (url: string) =>
    withPage(async (page) => {
      await page.goto(url);
      return passForms(page);
    });
  function walk(url: string): Promise<URL> {
    const authorization = authorizations.get(url) ?? go(url);
    authorizations.set(url, authorization);
    return authorization;
  }

  const opened = await listen((request, response) => {
    response.end();
    const url = new URL(request.url ?? "/", "http://localhost").searchParams.get("url");
    if (url) walk(url).catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
  });
  const bin = join(folder, "bin");
  await mkdir(bin, { recursive: true });
  const script = `#!${process.execPath}\nfetch("${opened.url}/?url=" + encodeURIComponent(process.argv.at(-1)));\n`;
  for (const name of openers) {
    await writeFile(join(bin, name), script);
    await chmod(join(bin, name), 0o755);
  }
  const made: Person = {
    bin,
    withPage,
    passForms,
    skipsServers: false,
    get authorizations() {
      return authorizations.size;
    },
    walk,
    async walkAll(text) {
      let end: URL | undefined;
      for (const [url] of stripVTControlCharacters(text).matchAll(
        /https:\/\/localhost:\S+[?&]state=\S+(?=\s)/g,
      ))
        end = await walk(url);
      return end;
    },
    async close() {
      await opened.close();
      await chrome.close();
    },
  };
  return made;
}
