import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browser as launch } from "../../../dev/demo/browser.ts";
import { mcpClient } from "../../../dev/demo/mcp-client.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { faultsOf, missingPictures } from "./pictures.ts";
import { loginsOfAlice, passForeignPages, watchedPage } from "./walk.ts";

const codePage = "https://auth.test/.pomerium/admin";

describe("the admin page, in Chromium", () => {
  let stack: E2e;
  let chromium: Browser;

  beforeAll(async () => {
    stack = await startE2e({
      config: (config) => ({
        ...config,
        admin_api: { admins: { allow: { or: [{ groups: { has: "engineering" } }] } } },
      }),
    });
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
  });
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
  });

  const at = (path: string) => `${stack.adminUrl}/admin/${path}`;
  /** Presses a button, and waits for the page after it. */
  async function press(page: Page, name: string | RegExp): Promise<void> {
    const document = page.waitForResponse(
      (one) => one.request().isNavigationRequest() && (one.status() < 300 || one.status() >= 400),
    );
    await page.getByRole("button", { name }).click();
    await document;
    await page.waitForLoadState("load");
  }
  async function codeOf(page: Page): Promise<string> {
    await page.goto(codePage);
    await passForeignPages(page, loginsOfAlice(stack));
    await press(page, "Show a code");
    return (await page.locator(".code").textContent()) ?? "";
  }
  async function signIn(context: BrowserContext): Promise<Page> {
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    const code = await codeOf(page);
    await page.goto(at(""));
    await page.getByLabel("One-time code").fill(code);
    await press(page, "Sign in");
    return page;
  }

  test("without JavaScript: sign in, add a route, change it, check it, disable it, delete it, sign out", async () => {
    const context = await chromium.newContext({ javaScriptEnabled: false });
    const page = await signIn(context);
    expect(await page.getByRole("heading", { level: 1 }).textContent()).toBe("Overview");
    await page.getByRole("link", { name: "Routes", exact: true }).click();
    await page.getByRole("link", { name: "New route" }).click();
    await page.getByLabel("Name").fill("Notes");
    await page.getByLabel("URL for clients (from)").fill("https://notes.test");
    await page.getByLabel("Upstream (to)").fill(stack.open.url);
    await page.getByLabel("Authentication at the upstream").selectOption("none");
    await press(page, "Create");
    expect(await page.getByRole("status").textContent()).toBe("The route is created, and in force.");

    await page.getByRole("link", { name: "Change", exact: true }).click();
    expect(await page.getByLabel("Settings").inputValue()).toContain("name: Notes");
    await page.getByLabel("Name").fill("Team notes");
    await press(page, "Save");
    expect(await page.getByRole("heading", { level: 1 }).textContent()).toBe("Team notes");

    await press(page, "Check the upstream");
    expect(await page.locator("pre").first().textContent()).toContain("users can use this route as it is");
    await press(page, "Disable");
    expect(await page.locator("dl .tag").first().textContent()).toBe("Disabled");
    await page.getByText("Delete this route").click();
    await page.getByLabel("Delete Team notes").check();
    await press(page, "Delete");
    expect(await page.getByRole("link", { name: "Team notes" }).count()).toBe(0);

    await press(page, "Sign out");
    await page.goto(at("routes"));
    expect(new URL(page.url()).pathname).toBe("/admin/sign-in");
    await context.close();
  });

  test("without JavaScript: create and revoke a service account, revoke a connection and a grant, rotate a key", async () => {
    const context = await chromium.newContext({ javaScriptEnabled: false });
    const page = await signIn(context);
    await connect(page);
    await page.goto(at("service-accounts"));
    await page.getByLabel("Name").fill("report");
    await page.getByLabel("Routes").fill("open");
    await press(page, "Create");
    expect(await page.locator("main").textContent()).toContain("not shown again");
    await page.goto(at("service-accounts"));
    await press(page, "Revoke report");
    expect(await page.getByRole("status").textContent()).toContain("revoked");

    await page.goto(at("connections"));
    await press(page, /^Revoke the connection of company\/alice/);
    expect(await page.getByRole("status").textContent()).toContain("The connection is deleted");
    await page.goto(at("grants"));
    await press(page, /^Revoke the grant of company\/alice/);
    expect(await page.getByRole("status").textContent()).toBe("The grant is revoked.");

    await page.goto(at("keys"));
    const section = page.locator("section", {
      has: page.getByRole("heading", { name: "Identity assertions" }),
    });
    await section.locator("summary").click();
    await section.getByLabel("Create a new key").check();
    await press(page, "Rotate Identity assertions");
    expect(await page.getByRole("status").textContent()).toContain("There is a new signing key");
    await context.close();
  });

  /** An MCP client of Alice with a connection, in this browser. */
  async function connect(page: Page): Promise<void> {
    const client = await mcpClient({
      url: stack.urls.everything,
      fetch: stack.fetch,
      name: "Desk app",
      browse: async (location) => {
        await page.goto(location.href);
        await passForeignPages(page, loginsOfAlice(stack));
        await page.getByRole("button", { name: "Allow" }).click();
        await passForeignPages(page, loginsOfAlice(stack));
        await page.waitForURL((url) => url.pathname === "/callback");
      },
    });
    await (await client.connect()).callTool({ name: "whoami", arguments: {} });
    await client.close();
  }

  test("a page on another port of the same host can neither post with the person's cookie, nor read or frame a page", async () => {
    const context = await chromium.newContext();
    const page = await signIn(context);
    const target = at("service-accounts");
    const csrf = await page.locator('input[name="csrf"]').first().inputValue();
    const fields = { csrf, name: "stolen", routes: "open", days: "1" };
    const inputs = Object.entries(fields).map(([name, value]) => `<input name="${name}" value="${value}">`);
    const evil = createServer((_request, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<form method="post" action="${target}">${inputs.join("")}<button>Win</button></form>
        <iframe src="${target}"></iframe>`);
    }).listen(0, "127.0.0.1");
    await once(evil, "listening");
    const { port } = evil.address() as AddressInfo;
    await page.goto(`http://127.0.0.1:${port}/`);
    const read = await page.evaluate(async (url) => {
      const options = { credentials: "include" } as const;
      const text = (mode: RequestMode) =>
        fetch(url, { ...options, mode }).then(
          (answer) => answer.text(),
          () => "failed",
        );
      const body = new URLSearchParams({ name: "stolen" });
      await fetch(url, { ...options, mode: "no-cors", method: "POST", body }).catch(() => {});
      return [await text("cors"), await text("no-cors")];
    }, target);
    expect(read.join("")).not.toContain("Administrator");
    const framed = page.frames().find((frame) => frame !== page.mainFrame());
    expect(await framed?.locator("body").textContent()).not.toContain("Administrator");
    const answer = page.waitForResponse((one) => one.request().method() === "POST");
    await page.getByRole("button", { name: "Win" }).click();
    expect((await answer).status()).toBe(403);
    await page.goto(target);
    expect(await page.getByRole("heading", { level: 1 }).textContent()).toBe("Service accounts");
    expect(await page.locator("main").textContent()).not.toContain("stolen");
    evil.close();
    await context.close();
  });

  test("every page is accessible, fits a phone, and violates no policy", { timeout: 480_000 }, async () => {
    const context = await chromium.newContext();
    const { page, complaints } = await watchedPage(context);
    const met: { name: string; problems: readonly string[] }[] = [];
    const meet = async (name: string) => {
      met.push({ name: `admin-${name}`, problems: await faultsOf(`admin-${name}`, page) });
    };
    await page.goto(codePage);
    await passForeignPages(page, loginsOfAlice(stack));
    await meet("code-offer");
    await press(page, "Show a code");
    const code = (await page.locator(".code").textContent()) ?? "";
    await meet("code");
    await page.goto(at(""));
    await meet("sign-in");
    await page.getByLabel("One-time code").fill("0000");
    await press(page, "Sign in");
    await meet("sign-in-rejected");
    await page.getByLabel("One-time code").fill(code);
    await press(page, "Sign in");
    await meet("overview");
    await connect(page);
    await page.goto(at("new-route"));
    await meet("new-route");
    await page.getByLabel("URL for clients (from)").fill("http://notes.test");
    await page.getByLabel("Name").fill("Notes");
    await page.getByLabel("Upstream (to)").fill(stack.open.url);
    await press(page, "Create");
    await meet("new-route-invalid");
    await page.getByLabel("URL for clients (from)").fill("https://notes.test");
    await page.getByLabel("Authentication at the upstream").selectOption("none");
    await press(page, "Create");
    await meet("route");
    await press(page, "Check the upstream");
    await meet("route-checked");
    await page.getByRole("link", { name: "Change", exact: true }).click();
    await meet("change-route");
    await page.goto(at("routes"));
    await meet("routes");
    await page.goto(at("routes/open"));
    await meet("route-of-the-file");
    await page.goto(at("connections"));
    await meet("connections");
    await page.goto(at("grants"));
    await meet("grants");
    await page.goto(at("service-accounts"));
    await page.getByLabel("Name").fill("nightly-report");
    await page.getByLabel("Routes").fill("open");
    await press(page, "Create");
    await meet("service-account-tokens");
    await page.goto(at("service-accounts"));
    await meet("service-accounts");
    await page.goto(at("keys"));
    await meet("keys");
    await page.goto(at("routes/nowhere"));
    await meet("error");
    await context.close();

    expect(complaints).toEqual([]);
    expect(met.flatMap(({ name, problems }) => problems.map((problem) => `${name} ${problem}`))).toEqual([]);
    expect(met.flatMap(({ name }) => missingPictures(name))).toEqual([]);
  });
});
