import { decodeJwt } from "jose";
import { parse } from "node-html-parser";
import type { HttpBrowser, Page } from "../support/http-browser.ts";
import { type McpApp, type people, throughCompany } from "./mcp-app.ts";
import type { AuthorizationServerStack } from "./start-authorization-server.ts";

export const everything = "https://everything.test";

/** An aggregated route in front of the stack's other routes. */
export const everythingRoute = `
  - from: ${everything}
    id: everything
    name: Everything
    mcp: {aggregate: {routes: [one, many-a, many-b]}}
    policy: [{allow: {and: [{accept: true}]}}]`;

/** Browsers with an MCP client that wants the aggregated route. */
export function aggregatedApp(stack: AuthorizationServerStack, app: McpApp, browser: HttpBrowser) {
  const allow = (page: Page) => browser.submit(page, {}, "decision=allow");
  return {
    /** The consent page; or what comes instead of it. */
    async consent(person: keyof typeof people = "alice"): Promise<Page & { readonly verifier: string }> {
      const { url, verifier } = app.request({ resource: everything });
      return { ...(await throughCompany(stack, browser, await browser.open(url), person)), verifier };
    },
    allow,
    /** The grant behind the code in this page's URL. */
    async grant(page: Page, verifier: string): Promise<{ grantId: string; refreshToken: string }> {
      const code = page.url.searchParams.get("code");
      if (code === null) throw new Error(`no code: ${page.url.href} ${page.html.slice(0, 1000)}`);
      const response = await app.exchange(code, verifier);
      const { access_token, refresh_token } = await response.json();
      return { grantId: String(decodeJwt(access_token).grant_id), refreshToken: refresh_token };
    },
    async membersOf(grantId: string): Promise<string[]> {
      return [...(await stack.store.grantedMembers.of(grantId)).keys()].toSorted();
    },
  };
}

/** Names and states that a page lists: `one: Connected`. */
export function listed(page: Page): string[] {
  return parse(page.html)
    .querySelectorAll(".rows h3")
    .map((heading) => {
      const state = heading.querySelector(".tag")?.text ?? "";
      return `${heading.text.replace(state, "").trim()}: ${state}`;
    });
}

/** The page after the user has unticked a server. */
export function untick(page: Page, name: string): Page {
  const root = parse(page.html);
  const label = root.querySelectorAll("label").find((one) => one.text === name);
  const box = root.querySelector(`#${label?.getAttribute("for")}`);
  if (!box) throw new Error(`no checkbox for ${name}`);
  box.removeAttribute("checked");
  return { ...page, html: root.toString() };
}

/** The name of a listed server in the page's forms. */
export function formName(page: Page, name: string): string {
  const root = parse(page.html);
  const row = root
    .querySelectorAll(".rows > li")
    .find((one) => one.querySelector("h3")?.text.startsWith(name));
  const value = row?.querySelector('[name="member"]')?.getAttribute("value");
  if (value === undefined) throw new Error(`${name} is not listed with a form`);
  return value;
}

/** Presses a button of one listed server: `connect` or `skip`. */
export function press(browser: HttpBrowser, page: Page, name: string, decision: string): Promise<Page> {
  const root = parse(page.html);
  for (const row of root.querySelectorAll(".rows > li"))
    if (!row.querySelector("h3")?.text.startsWith(name)) row.remove();
  return browser.submit(
    { ...page, html: root.toString() },
    { member: formName(page, name) },
    `decision=${decision}`,
  );
}
