import { parse } from "node-html-parser";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { aggregatedApp, everything, everythingRoute } from "../authorization-server/aggregated-app.ts";
import { onTheWeb, registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import type { HttpBrowser, Page } from "../support/http-browser.ts";

const portal = "https://auth.test/.pomerium/routes";
let stack: AuthorizationServerStack;
let browser: HttpBrowser;
beforeAll(async () => {
  stack = await startAuthorizationServer();
  await stack.reload((current) => current + everythingRoute);
});
afterAll(() => stack.close());
beforeEach(() => {
  browser = stack.browser();
  stack.denied.clear();
  stack.connections.clear();
});

/** An MCP client of Alice's that may use the aggregated route. */
async function allowed(name: string): Promise<{ grantId: string; flow: ReturnType<typeof aggregatedApp> }> {
  const app = await registeredApp(stack, { ...onTheWeb, client_name: name });
  const flow = aggregatedApp(stack, app, browser);
  const page = await flow.consent();
  return { ...(await flow.grant(await flow.allow(page), page.verifier)), flow };
}
const row = (page: Page, name: string) => {
  const found = parse(page.html)
    .querySelectorAll(".rows > li")
    .find((one) => one.querySelector("h3")?.text.trim().startsWith(name));
  if (!found) throw new Error(`${name} is not listed`);
  return found;
};
/** The page with the form for one member of one client only. */
function only(page: Page, client: string, member: string): Page {
  const form = row(page, client)
    .querySelectorAll(".removable form")
    .find((one) => one.querySelector('[name="member"]')?.getAttribute("value") === member);
  if (!form) throw new Error(`${client} has no ${member}`);
  return { ...page, html: form.toString() };
}

describe("an aggregated route in the portal", () => {
  test("is listed with the members that the user may use, and leads to where each is connected", async () => {
    stack.denied.add("company/alice many-b");
    await allowed("Sketchpad");
    stack.connections.set("company/alice one", "missing");
    const page = await browser.open(portal);
    const entry = row(page, "Everything");
    expect(entry.querySelectorAll(".names li").map((one) => one.text.trim())).toEqual([
      "one Not connected",
      "many-a Ready to use",
    ]);
    const target = entry.querySelector(".names a")?.getAttribute("href") ?? "";
    expect(parse(page.html).querySelector(target)?.querySelector("h3")?.text).toContain("one");
  });

  test("a member can be removed from an application, and from no other", async () => {
    const mine = await allowed("Removing");
    const other = await allowed("Keeping");
    let page = await browser.open(portal);
    expect(row(page, "Removing").querySelectorAll(".removable li")).toHaveLength(3);
    page = await browser.submit(only(page, "Removing", "one"), {});
    expect(parse(page.html).querySelector('[role="status"]')?.text).toContain("one is removed");
    expect(row(page, "Removing").querySelectorAll(".removable li")).toHaveLength(2);
    expect(await mine.flow.membersOf(mine.grantId)).toEqual(["many-a", "many-b"]);
    expect(await other.flow.membersOf(other.grantId)).toEqual(["many-a", "many-b", "one"]);
    const [event] = (await stack.store.auditEvents({ limit: 1000, action: "granted_member.removed" })).slice(
      -1,
    );
    expect(event).toMatchObject({ userId: "company/alice", grantId: mine.grantId, routeId: "one" });
  });

  test("a form of another person or without this session's token removes nothing", async () => {
    const { grantId, flow } = await allowed("Attacked");
    const page = only(await browser.open(portal), "Attacked", "one");
    expect((await browser.submit(page, { csrf: "A".repeat(43) })).status).toBe(403);
    const bobs = stack.browser();
    const theirs = aggregatedApp(stack, await registeredApp(stack, onTheWeb), bobs);
    await theirs.allow(await theirs.consent("bob"));
    const own =
      parse((await bobs.open(portal)).html)
        .querySelector('[name="csrf"]')
        ?.getAttribute("value") ?? "";
    expect((await bobs.submit(page, { csrf: own })).status).toBe(200);
    expect(await flow.membersOf(grantId)).toContain("one");
  });

  test("the list for applications names its members", async () => {
    stack.denied.add("company/alice many-b");
    await allowed("Lister");
    const cookie = await browser.jar.getCookieString("https://auth.test/.pomerium/mcp/routes");
    const response = await stack.fetch("https://auth.test/.pomerium/mcp/routes", { headers: { cookie } });
    const { servers } = await response.json();
    expect(servers.find(({ name }: { name: string }) => name === "Everything")).toEqual({
      name: "Everything",
      url: everything,
      connected: true,
      needs_oauth: false,
      auth_connected: null,
      members: ["https://one.test", "https://many.test/a"],
    });
    expect(servers.find(({ name }: { name: string }) => name === "one")).not.toHaveProperty("members");
  });
});
