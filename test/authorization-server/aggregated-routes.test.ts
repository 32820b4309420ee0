import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { HttpBrowser } from "../support/http-browser.ts";
import { aggregatedApp, everything, everythingRoute, listed, press, untick } from "./aggregated-app.ts";
import { type McpApp, onTheWeb, registeredApp } from "./mcp-app.ts";
import { type AuthorizationServerStack, startAuthorizationServer } from "./start-authorization-server.ts";

let stack: AuthorizationServerStack;
let app: McpApp;
let browser: HttpBrowser;
let flow: ReturnType<typeof aggregatedApp>;
let withEverything: string;
beforeAll(async () => {
  stack = await startAuthorizationServer();
  await stack.reload((current) => (withEverything = current + everythingRoute));
});
afterAll(() => stack.close());
beforeEach(async () => {
  app = await registeredApp(stack, onTheWeb);
  browser = stack.browser();
  flow = aggregatedApp(stack, app, browser);
  stack.connectOutcome = "connects";
  stack.connections.clear();
  stack.denied.clear();
  await stack.reload(withEverything);
});
const memberRoute = (id: string, upstream = "http://upstream.test:8080/mcp") => `
  - from: https://${id}.test
    to: ${upstream}
    id: ${id}
    name: ${id}
    mcp: {server: {}}
    policy: [{allow: {and: [{accept: true}]}}]`;
const withMember = (id: string, upstream?: string) =>
  withEverything.replace("many-a, many-b]", `many-a, many-b, ${id}]`) + memberRoute(id, upstream);

describe("the consent page of an aggregated route", () => {
  test("lists the members that the user may use, and what each needs; those that stay ticked are granted", async () => {
    stack.connections.set("company/alice one", "connected");
    stack.denied.add("company/alice many-b");
    const page = await flow.consent();
    expect(listed(page)).toEqual(["one: Connected", "many-a: Needs no account"]);
    const { grantId } = await flow.grant(await flow.allow(page), page.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-a", "one"]);
    const events = await stack.store.auditEvents({ limit: 1000, action: "grant.created" });
    expect(events.find((event) => event.grantId === grantId)?.detail).toEqual({
      client_name: "Test app",
      members: "one many-a",
    });
  });

  test("says where a member asks, and for what", async () => {
    stack.connections.set("company/alice one", "missing");
    const page = await flow.consent();
    expect(listed(page)).toContain("one: Not connected");
    expect(page.html).toContain("upstream.test:8080");
  });

  test("gives the client its code even if every member is unticked", async () => {
    const page = await flow.consent();
    const none = ["one", "many-a", "many-b"].reduce(untick, page);
    const { grantId } = await flow.grant(await flow.allow({ ...page, ...none }), page.verifier);
    expect(await flow.membersOf(grantId)).toEqual([]);
  });

  test("grants nothing that was added while it was open; the next time asks about it", async () => {
    const page = await flow.consent();
    await stack.reload(withMember("late"));
    const { grantId } = await flow.grant(await flow.allow(page), page.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-a", "many-b", "one"]);
    expect(listed(await flow.consent())).toContain("late: Needs no account");
  });

  test("grants no member that was replaced while it was open", async () => {
    await stack.reload(withMember("swapped"));
    const page = await flow.consent();
    expect(listed(page)).toContain("swapped: Needs no account");
    await stack.reload(withMember("swapped", "http://elsewhere.test:8080/mcp"));
    const { grantId } = await flow.grant(await flow.allow(page), page.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-a", "many-b", "one"]);
  });

  test("is not shown again while the user has seen every member, and grants then what was allowed", async () => {
    const page = await flow.consent();
    await flow.allow({ ...page, ...untick(page, "many-a") });
    const again = await flow.consent();
    const { grantId } = await flow.grant(again, again.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-b", "one"]);
    // What the portal removed and a link added counts the next time.
    await stack.store.grantedMembers.remove(grantId, "one", {});
    const [added] = [{ routeId: "many-a", upstream: "http://upstream.test:8080/mcp" }];
    await stack.store.grantedMembers.allow({ grantId, userId: "company/alice" }, [added], {});
    const third = await flow.consent();
    expect(await flow.membersOf((await flow.grant(third, third.verifier)).grantId)).toEqual([
      "many-a",
      "many-b",
    ]);
  });

  test("is shown again when a member has been added; an earlier grant keeps what it had", async () => {
    const page = await flow.consent();
    const first = await flow.grant(await flow.allow(page), page.verifier);
    await stack.reload(withMember("late"));
    const again = await flow.consent();
    expect(listed(again)).toContain("late: Needs no account");
    expect((await app.refresh(first.refreshToken)).status).toBe(200);
    expect(await flow.membersOf(first.grantId)).not.toContain("late");
    const second = await flow.grant(await flow.allow(again), again.verifier);
    expect(await flow.membersOf(second.grantId)).toContain("late");
  });

  test("of another client grants that client's members only", async () => {
    const page = await flow.consent();
    const mine = await flow.grant(await flow.allow({ ...page, ...untick(page, "one") }), page.verifier);
    const other = aggregatedApp(stack, await registeredApp(stack, onTheWeb), browser);
    const theirs = await other.consent();
    const { grantId } = await other.grant(await other.allow(theirs), theirs.verifier);
    expect(await flow.membersOf(grantId)).toContain("one");
    expect(await flow.membersOf(mine.grantId)).not.toContain("one");
  });
});

describe("members that require the user's consent at their upstream", () => {
  beforeEach(() => {
    for (const id of ["one", "many-a"]) stack.connections.set(`company/alice ${id}`, "missing");
  });

  test("are connected one after another from one page; the last one ends it", async () => {
    const consent = await flow.consent();
    let page = await flow.allow(consent);
    expect(listed(page)).toEqual(["one: Not connected", "many-a: Not connected"]);
    page = await press(browser, page, "many-a", "connect");
    expect(listed(page)).toEqual(["one: Not connected", "many-a: Connected"]);
    page = await press(browser, page, "one", "connect");
    const { grantId } = await flow.grant(page, consent.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-a", "many-b", "one"]);
    expect(stack.connections.get("company/alice one")).toBe("connected");
  });

  test("can be skipped, and fail, one by one: the failure is shown beside the member", async () => {
    const consent = await flow.consent();
    let page = await press(browser, await flow.allow(consent), "one", "skip");
    expect(listed(page)).toEqual(["one: Skipped", "many-a: Not connected"]);
    stack.connectOutcome = { error: "server_error", beside: { connect_error_reason: "client_rejected" } };
    page = await press(browser, page, "many-a", "connect");
    expect(listed(page)).toEqual(["one: Skipped", "many-a: Not connected"]);
    expect(page.html).toContain("many-a was not connected: its authorization server does not accept");
    // Reloading and going back show the same.
    expect(listed(await browser.open(page.url))).toEqual(["one: Skipped", "many-a: Not connected"]);
    stack.connectOutcome = "nothing";
    page = await press(browser, page, "one", "connect");
    expect(page.html).toContain("one was not connected");
    expect(page.html).toContain("many-a was not connected");
    page = await press(browser, page, "many-a", "skip");
    page = await press(browser, page, "one", "skip");
    const { grantId } = await flow.grant(page, consent.verifier);
    expect(await flow.membersOf(grantId)).toEqual(["many-a", "many-b", "one"]);
  });

  test("may all be left out: Continue gives the client its code, and its refresh token works", async () => {
    const consent = await flow.consent();
    const hub = await flow.allow(consent);
    const grant = await flow.grant(await browser.submit(hub, {}, "decision=continue"), consent.verifier);
    expect((await app.refresh(grant.refreshToken)).status).toBe(200);
    // The form was already used: the flow is over.
    expect((await browser.submit(hub, {}, "decision=continue")).status).toBe(400);
  });

  test("are not asked about if they were unticked", async () => {
    const consent = await flow.consent();
    const page = await flow.allow({ ...consent, ...untick(untick(consent, "one"), "many-a") });
    expect(page.url.searchParams.get("code")).toBeTruthy();
  });

  test("are offered again to a client that was allowed before, but never with prompt=none", async () => {
    const consent = await flow.consent();
    const hub = await flow.allow(consent);
    await browser.submit(hub, {}, "decision=continue");
    expect(listed(await flow.consent())).toEqual(["one: Not connected", "many-a: Not connected"]);
    const silent = await browser.open(app.request({ resource: everything, prompt: "none" }).url);
    expect(silent.url.searchParams.get("code")).toBeTruthy();
  });

  test("that were connected elsewhere in the meantime are not asked about again", async () => {
    const consent = await flow.consent();
    const hub = await flow.allow(consent);
    for (const id of ["one", "many-a"]) stack.connections.set(`company/alice ${id}`, "connected");
    const { grantId } = await flow.grant(await browser.open(hub.url), consent.verifier);
    expect(await flow.membersOf(grantId)).toContain("one");
  });
});
