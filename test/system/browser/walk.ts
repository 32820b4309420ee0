import type { BrowserContext, Page } from "playwright-core";
import type { Stack } from "../../../dev/demo/stack.ts";

/** Accounts of one user by the origin of the form. */
export type Logins = ReadonlyMap<string, { readonly login: string; readonly password: string }>;

/** Alice's accounts at the sign-in provider and at the upstream. */
export function loginsOfAlice(stack: Stack): Logins {
  return new Map([
    [stack.openid.issuer, { login: "alice", password: "wonderland" }],
    [stack.upstream.issuer, { login: "ally", password: "looking-glass" }],
  ]);
}

/** Bob's. */
export function loginsOfBob(stack: Stack): Logins {
  return new Map([
    [stack.openid.issuer, { login: "bob", password: "builder" }],
    [stack.upstream.issuer, { login: "bobby", password: "hammer" }],
  ]);
}

/** Submits the forms of the sign-in provider and the upstream, allowing (or with `decision`), until the browser leaves them. */
export async function passForeignPages(page: Page, logins: Logins, decision = "allow"): Promise<void> {
  for (let steps = 0; steps < 10; steps++) {
    // A page that is still loading would be mistaken for the page after the form.
    await page.waitForLoadState("load");
    const login = logins.get(new URL(page.url()).origin);
    if (!login) return;
    let button = `button[value=${decision}]`;
    if (await page.locator("[name=password]").count()) {
      await page.fill("[name=login]", login.login);
      await page.fill("[name=password]", login.password);
      button = "button[type=submit]";
    }
    if ((await page.locator(button).count()) === 0)
      throw new Error(`no ${button} at ${page.url()}: ${await page.locator("body").innerText()}`);
    await Promise.all([page.waitForEvent("load"), page.click(button)]);
  }
  throw new Error(`still at ${page.url()}`);
}

/** Continues as the user of the issuer's host if another user is signed in on this one. */
export async function continueAsOther(page: Page): Promise<void> {
  await page.getByRole("button", { name: /^Continue as / }).click();
  await page.waitForURL((url) => !url.pathname.endsWith("/sign_in/complete"));
}

/** Presses Connect on the confirmation page on the issuer's host, and waits until the browser has left it. */
export async function agreeToConnect(page: Page): Promise<void> {
  await page.waitForURL((url) => url.pathname.endsWith("/mcp/connect/confirm"));
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await page.waitForURL((url) => !url.pathname.endsWith("/mcp/connect/confirm"));
}

/** A tab that records requests and violations of the Content Security Policy. */
export async function watchedPage(context: BrowserContext) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const requests: string[] = [];
  const complaints: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => {
    if (/Content.Security.Policy/i.test(message.text())) complaints.push(message.text());
  });
  return { page, requests, complaints };
}
