import { readFile } from "node:fs/promises";
import { decodeJwt } from "jose";
import type { Browser, Page, Response } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browser as launch } from "../../../dev/demo/browser.ts";
import { mcpClient } from "../../../dev/demo/mcp-client.ts";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { faultsOf, logo, missingPictures } from "./pictures.ts";
import { loginsOfAlice, passForeignPages, watchedPage } from "./walk.ts";

const portal = "https://auth.test/.pomerium/routes";

/** A visited page, with its faults in any variant. */
interface Met {
  readonly name: string;
  readonly problems: readonly string[];
  readonly bytes: number;
  readonly policy: string;
  readonly scripts: number;
  /** On error pages. */
  readonly requestId?: string;
}

describe("every page that users see, in Chromium", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let stack: E2e;
  let chromium: Browser;
  const met: Met[] = [];
  let requests: readonly string[];
  let complaints: readonly string[];

  beforeAll(async () => {
    database = await createTestDatabase();
    stack = await startE2e({
      env: { DATABASE_URL: database.url },
      // With several providers, each has its own callback.
      signInRedirectUris: ["https://auth.test/.pomerium/sign_in/callback/company"],
      config: (config) => {
        const signIn = config.sign_in as { providers: Record<string, unknown>[] };
        signIn.providers.push({ ...signIn.providers[0], id: "partners", name: "Partner sign-in" });
        const [everything, open] = config.routes;
        return {
          ...config,
          routes: [
            { ...everything, name: "Design library", description: "Components, tokens and review notes" },
            {
              ...open,
              name: "Measurements",
              description: "Figures of the last night's runs",
              logo_url: "https://logos.test/m.svg",
            },
          ],
        };
      },
    });
    chromium = await launch({ publicKeyHash: stack.ca.publicKeyHash, resolve: stack.resolve });
    await walk();
  }, 240_000);
  afterAll(async () => {
    await chromium?.close();
    await stack?.close();
    await database?.close();
  });

  /** Checks the page in all variants. */
  async function meet(name: string, page: Page, response: Response | null): Promise<void> {
    const scripts = await page.locator("script:not([src]), [onclick], [onload], [style]").count();
    const problems = await faultsOf(name, page);
    met.push({
      name,
      problems,
      bytes: Buffer.byteLength(await page.content()),
      policy: (await response?.headerValue("content-security-policy")) ?? "",
      scripts,
      requestId: /Request id<\/dt><dd><code>([^<]+)/.exec(await page.content())?.[1],
    });
  }

  /** All pages in one tab, as one user. */
  async function walk(): Promise<void> {
    const context = await chromium.newContext();
    await context.route("https://logos.test/**", (route) =>
      route.fulfill({ contentType: "image/svg+xml", body: logo }),
    );
    const watched = await watchedPage(context);
    ({ requests, complaints } = watched);
    const { page } = watched;
    const logins = loginsOfAlice(stack);
    const go = (url: string) => page.goto(url);
    // Chromium sometimes fails a reload right after a navigation from another origin.
    const again = () => go(page.url());
    const press = async (name: string | RegExp) => {
      const document = page.waitForResponse(
        (one) => one.request().isNavigationRequest() && one.status() < 300,
      );
      await page.getByRole("button", { name }).click();
      const response = await document;
      await page.waitForLoadState("load");
      return response;
    };

    await meet("sign-in-choice", page, await go(portal));
    await page.getByRole("link", { name: "Continue with Company sign-in" }).click();
    await passForeignPages(page, logins);
    await meet("connections-first-time", page, await again());

    const client = await mcpClient({
      url: stack.urls.everything,
      fetch: stack.fetch,
      name: "Sketchpad for Desktop",
      browse: async (location) => {
        const response = await go(location.href);
        await meet("consent", page, response);
        await press(/^Allow/);
        await passForeignPages(page, logins);
      },
    });
    const connected = await client.connect();
    await connected.callTool({ name: "whoami", arguments: {} });
    await meet("connections", page, await go(portal));

    await meet("connections-disconnected", page, await press("Disconnect Design library"));
    const connect =
      "https://everything.test/.pomerium/mcp/connect?redirect_url=https%3A%2F%2Feverything.test%2F";
    await meet("confirm-connection", page, await go(connect));
    const link = await consentLink(client.tokens()?.access_token ?? "");
    await meet("consent-link", page, await go(link));
    await press("Cancel");
    await meet("consent-link-not-connected", page, await again());
    await go(portal);
    await press("Connect Design library");
    await passForeignPages(page, logins, "deny");
    await meet("connections-refused", page, await again());
    await press("Connect Design library");
    await passForeignPages(page, logins);
    await meet("connections-connected", page, await again());
    await meet("consent-link-connected", page, await go(link));
    await meet("consent-link-unknown", page, await go(`${link.slice(0, -43)}${"x".repeat(43)}`));
    await stack.command(
      ...["service-accounts", "create", "nightly-report", "--route", "everything"],
      ...["--owner", decodeJwt(client.tokens()?.access_token ?? "").sub ?? ""],
    );
    await meet("connections-service-account-asks", page, await go(portal));
    await meet("connections-service-account", page, await press("Allow nightly-report on Design library"));
    await meet("access-revoked", page, await press(/Revoke access of Sketchpad/));

    const done =
      "https://everything.test/.pomerium/mcp/connect?popup=1&redirect_url=https%3A%2F%2Feverything.test%2F";
    await meet("popup-done", page, await go(done));
    await meet("not-connected", page, await go("https://everything.test/.pomerium/mcp/connect"));
    await meet("not-found", page, await go("https://auth.test/.pomerium/nothing-here"));
    await meet("authorization-expired", page, await go("https://auth.test/oauth/interaction/long-gone"));
    await meet("authorization-refused", page, await go("https://auth.test/oauth/authorize?client_id=nobody"));
    await meet(
      "which-server",
      page,
      await go("https://auth.test/oauth/authorize?client_id=nobody&response_type=code"),
    );
    await meet(
      "sign-in-failed",
      page,
      await go("https://auth.test/.pomerium/sign_in/callback?state=old&code=x"),
    );
    await meet("sign-out", page, await go("https://auth.test/.pomerium/sign_out"));
    await page.getByRole("button", { name: "Sign out" }).click();
    await meet("signed-out", page, await go("https://auth.test/.pomerium/sign_out"));
    await client.close();
    await context.close();
  }

  /** The link with which a call without consent is answered (MCP 2026-07-28). */
  async function consentLink(token: string): Promise<string> {
    const capabilities = { elicitation: { url: {} } };
    const params = {
      name: "whoami",
      _meta: { "io.modelcontextprotocol/clientCapabilities": capabilities },
    };
    const response = await stack.fetch(stack.urls.everything, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params }),
    });
    return /https:\/\/auth\.test\/[\w./-]+/.exec(await response.text())?.[0] ?? "no link";
  }

  test("all pages were visited, each with its screenshots", () => {
    expect(met.map(({ name }) => name)).toHaveLength(24);
    expect(met.flatMap(({ name }) => missingPictures(name))).toEqual([]);
  });

  test("no page has accessibility violations or is wider than the screen, on a phone and a desktop, light and dark", () => {
    expect(met.flatMap(({ name, problems }) => problems.map((problem) => `${name} ${problem}`))).toEqual([]);
  });

  test("an error page's request id is in the log", async () => {
    const log = await readFile(stack.sidecar().logFile, "utf8");
    const withId = met.filter(({ requestId }) => requestId);
    expect(withId.map(({ name }) => name)).toEqual([
      "consent-link-unknown",
      "not-connected",
      "not-found",
      "authorization-expired",
      "authorization-refused",
      "sign-in-failed",
    ]);
    for (const { name, requestId = "" } of withId) expect(log, name).toContain(requestId);
  });

  test("each page is smaller than 30 KB", () => {
    expect(met.filter(({ bytes }) => bytes === 0 || bytes > 30_000)).toEqual([]);
  });

  test("the policy allows no inline scripts, and there were no violations", () => {
    expect(complaints).toEqual([]);
    for (const { name, policy, scripts } of met) {
      expect(policy, name).toMatch(/^default-src 'none'; style-src 'sha256-/);
      expect(policy, name).toContain("frame-ancestors 'none'");
      expect(policy, name).not.toMatch(/unsafe|script-src [^;]*(sha256|nonce)/);
      expect(scripts, name).toBe(0);
    }
  });

  test("only the logos in the routes file are fetched from other hosts", () => {
    const own = new Set([
      "https://auth.test",
      "https://everything.test",
      "https://open.test",
      stack.openid.issuer,
      stack.upstream.issuer,
      "https://logos.test",
    ]);
    const elsewhere = requests.filter((url) => {
      const { origin, hostname, pathname } = new URL(url);
      return (
        !own.has(origin) &&
        !(hostname === "127.0.0.1" && pathname === "/callback") &&
        pathname !== "/favicon.ico"
      );
    });
    expect(elsewhere).toEqual([]);
    expect(requests).toContain("https://logos.test/m.svg");
  });
});
