import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { browser } from "../../../dev/demo/browser.ts";
import { startE2e } from "../../support/e2e.ts";
import { inspectorLauncher, startInspector } from "./inspector.ts";
import { installClients } from "./install.ts";

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

test("MCP Inspector in Chromium: connects by OAuth with only the URL, and calls a tool", {
  timeout: 300_000,
}, async () => {
  const find = await installClients();
  // It resolves names itself, so this uses localhost.
  const stack = await startE2e({ urls: undefined });
  cleanUp.push(() => stack.close());
  const home = await mkdtemp(join(tmpdir(), "inspector-"));
  cleanUp.push(() => rm(home, { recursive: true, force: true }));
  const inspector = await startInspector({
    launcher: find(inspectorLauncher),
    url: stack.urls.everything,
    home,
    ca: stack.ca.files.ca,
  });
  cleanUp.push(inspector.close);
  const { address } = inspector;
  const own = new URL(address).origin;
  const chrome = await browser({ publicKeyHash: stack.ca.publicKeyHash });
  cleanUp.push(() => chrome.close());
  const context = await chrome.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(address);

  // The switch next to the server: redirects to the authorization server in this tab, and back. Its input has no size during layout, so
  // the event is sent to the element, not to coordinates.
  await page.getByRole("switch").last().dispatchEvent("click");
  await page.waitForURL((url) => url.origin === stack.openid.issuer);
  const logins: Readonly<Record<string, { login: string; password: string }>> = {
    [stack.openid.issuer]: { login: "alice", password: "wonderland" },
    [stack.upstream.issuer]: { login: "ally", password: "looking-glass" },
  };
  const password = page.locator('input[name="password"]');
  const allow = page.locator('button[name="decision"][value="allow"]');
  for (let forms = 0; !page.url().startsWith(own); forms += 1) {
    if (forms === 10) throw new Error(`still on a form after ten: ${page.url()}`);
    const login = logins[new URL(page.url()).origin];
    await password.or(allow).first().waitFor();
    const isSignIn = (await password.count()) > 0;
    if (isSignIn && login) {
      await page.locator('input[name="login"]').fill(login.login);
      await password.fill(login.password);
    }
    const button = isSignIn ? page.locator('button[type="submit"]').first() : allow;
    await Promise.all([page.waitForEvent("load"), button.click()]);
  }
  await page.getByText("Connected", { exact: true }).first().waitFor();
  await page.getByText("Tools", { exact: true }).first().click();
  await page.getByText("whoami", { exact: true }).first().click();
  await page.getByRole("button", { name: "Execute Tool" }).click();
  await page.getByText("ally", { exact: true }).waitFor();
  expect(stack.upstream.counts.registrations + stack.upstream.counts.authorizations).toBe(1);
});
