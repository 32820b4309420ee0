import { decodeJwt } from "jose";
import { parse } from "node-html-parser";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { memberName } from "../../src/authorization-server/member-consent.ts";
import {
  aggregatedApp,
  everythingRoute,
  formName,
  listed,
  press,
} from "../authorization-server/aggregated-app.ts";
import { onTheWeb, type people, registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import type { HttpBrowser, Page } from "../support/http-browser.ts";

/** A client gets a member of an aggregated route that its user has not allowed for it. */

const alice = "company/alice";
let stack: AuthorizationServerStack;
beforeAll(async () => {
  stack = await startAuthorizationServer();
  const payroll = `
  - {from: https://payroll.test, to: "http://upstream.test:8080/payroll", id: payroll, name: Payroll, mcp: {server: {upstream_auth: none}}, policy: [{allow: {and: [{accept: true}]}}]}`;
  await stack.reload((current) => current + everythingRoute + payroll);
});
afterAll(() => stack.close());
beforeEach(() => {
  stack.connections.clear();
  stack.denied.clear();
  stack.connectOutcome = "connects";
});

async function user(person: keyof typeof people, browser: HttpBrowser = stack.browser()) {
  const app = await registeredApp(stack, onTheWeb);
  const flow = aggregatedApp(stack, app, browser);
  const consent = await flow.consent(person);
  return { app, flow, consent, browser };
}
const route = (id: string) => {
  const found = stack.routes().byId(id);
  if (!found) throw new Error(`no route ${id}`);
  return found;
};
/** The page with a hidden field replaced or added to its first form. */
function withField(page: Page, name: string, value: string): Page {
  const root = parse(page.html);
  const form = root.querySelector("form");
  form?.querySelector(`[type="hidden"][name="${name}"]`)?.remove();
  form?.insertAdjacentHTML("beforeend", `<input type="hidden" name="${name}" value="${value}">`);
  return { ...page, html: root.toString() };
}

describe("the consent form", () => {
  test("names a route that is not a member, or one that policy denies: it is not granted", async () => {
    stack.denied.add(`${alice} many-b`);
    const { flow, consent } = await user("alice");
    const names = ["payroll", "many-b", "everything"].map((id) => memberName(route(id)));
    const shown = parse(consent.html).querySelector('[name="shown"]')?.getAttribute("value") ?? "";
    let page: Page = withField(consent, "shown", [shown, ...names].join(" "));
    for (const name of names) {
      const root = parse(page.html);
      root
        .querySelector("form")
        ?.insertAdjacentHTML("beforeend", `<input type="hidden" name="member" value="${name}">`);
      page = { ...page, html: root.toString() };
    }
    const { grantId } = await flow.grant(await flow.allow(page), consent.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-a", "one"]);
  });

  test("of another person is rejected, and so is one of another browser", async () => {
    const { consent, flow } = await user("alice");
    const bob = await user("bob");
    // Bob's browser does not have Alice's interaction; Alice's form in it changes nothing.
    expect((await bob.flow.allow(consent)).status).toBe(400);
    const csrf = parse(bob.consent.html).querySelector('[name="csrf"]')?.getAttribute("value") ?? "";
    expect((await flow.allow(withField(consent, "csrf", csrf))).status).toBe(403);
    expect((await flow.allow(consent)).url.searchParams.get("code")).toBeTruthy();
  });

  test("sent twice gives one code", async () => {
    const { consent, flow } = await user("alice");
    expect((await flow.allow(consent)).url.searchParams.get("code")).toBeTruthy();
    const again = await flow.allow(consent);
    expect(again.status).toBe(400);
    expect(again.url.searchParams.get("code")).toBeNull();
  });

  test("in two tabs: each client gets what its own form allowed", async () => {
    const browser = stack.browser();
    const first = await user("alice", browser);
    const second = await user("alice", browser);
    const name = formName(second.consent, "many-a");
    const narrowed = parse(second.consent.html);
    narrowed.querySelector(`#member-${name}`)?.removeAttribute("checked");
    const ends = [
      await second.flow.allow({ ...second.consent, html: narrowed.toString() }),
      await first.flow.allow(first.consent),
    ];
    const [theirs, mine] = [
      await second.flow.grant(ends[0] as Page, second.consent.verifier),
      await first.flow.grant(ends[1] as Page, first.consent.verifier),
    ];
    expect(await second.flow.membersOf(theirs.grantId)).toEqual(["many-b", "one"]);
    expect(await first.flow.membersOf(mine.grantId)).toEqual(["many-a", "many-b", "one"]);
  });
});

describe("the page that connects members", () => {
  beforeEach(() => {
    for (const id of ["one", "many-a"]) stack.connections.set(`${alice} ${id}`, "missing");
  });

  test("leads only to members that the user has just allowed", async () => {
    const { flow, consent, browser } = await user("alice");
    const unticked = parse(consent.html);
    unticked.querySelector(`#member-${formName(consent, "many-a")}`)?.removeAttribute("checked");
    const hub = await flow.allow({ ...consent, html: unticked.toString() });
    expect(listed(hub)).toEqual(["one: Not connected"]);
    for (const id of ["many-a", "payroll", "everything"]) {
      const page = await browser.submit(
        withField(hub, "member", memberName(route(id))),
        {},
        "decision=connect",
      );
      expect(page.url.origin, id).toBe("https://auth.test");
    }
    expect(stack.connections.get(`${alice} many-a`)).toBe("missing");
  });

  test("a form without this session's token connects and skips nothing", async () => {
    const { flow, consent, browser } = await user("alice");
    const hub = await flow.allow(consent);
    const forged = withField(hub, "csrf", "A".repeat(43));
    for (const decision of ["connect", "skip", "continue"])
      expect((await browser.submit(forged, {}, `decision=${decision}`)).status).toBe(403);
    expect(listed(await browser.open(hub.url))).toEqual(["one: Not connected", "many-a: Not connected"]);
  });

  test("another browser gets neither the page nor its form", async () => {
    const { flow, consent } = await user("alice");
    const hub = await flow.allow(consent);
    const other = (await user("bob")).browser;
    expect((await other.open(hub.url)).status).toBe(400);
    expect((await other.submit(hub, {}, "decision=continue")).status).toBe(400);
  });

  test("a made-up link shows only the gateway's words, and ends nothing that is not decided", async () => {
    const { flow, consent, browser } = await user("alice");
    const hub = await flow.allow(consent);
    const link = new URL(hub.url);
    const [one, many] = [memberName(route("one")), memberName(route("many-a"))];
    link.searchParams.append("failed", `${one} evil call-0900-EVIL`);
    link.searchParams.append("tried", many);
    link.searchParams.append("connect_error", "<b>evil</b>");
    link.searchParams.append("connect_error_description", "call 0900 EVIL");
    const page = await browser.open(link);
    expect(page.html).not.toMatch(/0900|<b>/);
    expect(listed(page)).toEqual(["one: Not connected", "many-a: Not connected"]);
  });

  test("a failure at one member does not end the others' connections", async () => {
    const { flow, consent, browser } = await user("alice");
    const hub = await flow.allow(consent);
    stack.connectOutcome = { error: "access_denied" };
    const failed = await press(browser, hub, "one", "connect");
    stack.connectOutcome = "connects";
    const page = await press(browser, failed, "many-a", "connect");
    expect(listed(page)).toEqual(["one: Not connected", "many-a: Connected"]);
  });
});

describe("a consent link", () => {
  /** Opens the link in the browser and presses its button. */
  async function follow(
    browser: HttpBrowser,
    wanted: Partial<Parameters<typeof stack.createConsentLink>[0]>,
  ) {
    const url = await stack.createConsentLink({
      userId: alice,
      route: route("one"),
      clientId: "client",
      aggregate: route("everything"),
      ...wanted,
    });
    return browser.submit(await browser.open(url), {}, "decision=allow");
  }

  test("adds the member to the grant that it was made for, and to no other", async () => {
    const { flow, consent, browser } = await user("alice");
    const unticked = parse(consent.html);
    unticked.querySelector(`#member-${formName(consent, "one")}`)?.removeAttribute("checked");
    const mine = await flow.grant(
      await flow.allow({ ...consent, html: unticked.toString() }),
      consent.verifier,
    );
    const again = await flow.consent();
    const other = await flow.grant(again, again.verifier);
    await follow(browser, { grantId: mine.grantId });
    expect(await flow.membersOf(mine.grantId)).toEqual(["many-a", "many-b", "one"]);
    expect(await flow.membersOf(other.grantId)).toEqual(["many-a", "many-b"]);
  });

  test("adds nothing to another person's grant, a revoked one, one for another route, nor a route that is not a member", async () => {
    const { app, flow, consent, browser } = await user("alice");
    const unticked = parse(consent.html);
    unticked.querySelector(`#member-${formName(consent, "one")}`)?.removeAttribute("checked");
    const mine = await flow.grant(
      await flow.allow({ ...consent, html: unticked.toString() }),
      consent.verifier,
    );
    const bob = await user("bob");
    const theirs = await bob.flow.grant(await bob.flow.allow(bob.consent), bob.consent.verifier);
    await stack.store.grantedMembers.remove(theirs.grantId, "one", {});
    await follow(browser, { grantId: theirs.grantId });
    expect(await flow.membersOf(theirs.grantId)).not.toContain("one");
    await follow(browser, { grantId: mine.grantId, route: route("payroll") });
    expect(await flow.membersOf(mine.grantId)).toEqual(["many-a", "many-b"]);
    await stack.store.authorizationServerRecords.revokeGrant(mine.grantId, { action: "grant.revoked" });
    await follow(browser, { grantId: mine.grantId });
    expect(await flow.membersOf(mine.grantId)).toEqual([]);
    const direct = await app.tokens(browser, "alice", { resource: "https://one.test" });
    const grantId = String(decodeJwt(direct.access_token).grant_id);
    await follow(browser, { grantId });
    expect(await flow.membersOf(grantId)).toEqual([]);
  });
});
