import { parse } from "node-html-parser";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { registeredApp } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import type { HttpBrowser } from "../support/http-browser.ts";
import { rejectedWithinASecond } from "../support/rejected-within-a-second.ts";
import type { Replica } from "../support/stack.ts";

let stack: AuthorizationServerStack;
let replica: Replica;
beforeAll(async () => {
  stack = await startAuthorizationServer("sign_out: {ends: everything}\n");
  replica = await stack.replica();
});
afterAll(() => stack?.close());

const userId = "company/alice";
const signOutUrl = "https://auth.test/.pomerium/sign_out";
const whoami = async (browser: HttpBrowser) =>
  JSON.parse((await browser.open("https://auth.test/whoami")).html) as object;

/** What a check on a replica finds out about a token: 401 if it is not valid. */
const verifiedAt = async (
  { externalTokens, routes }: Pick<Replica, "externalTokens" | "routes">,
  token: string,
) => {
  const route = routes().byId("one");
  if (!route) throw new Error("no route one");
  return { status: (await externalTokens.verify(token, route)).ok ? 200 : 401 };
};

describe("sign-out with sign_out.ends: everything", () => {
  test("ends the person's sessions in all browsers and all their grants, on every replica within a second; others keep theirs", async () => {
    const app = await registeredApp(stack);
    const [hers, phone, his] = [stack.browser(), stack.browser(), stack.browser()];
    const tokens = await app.tokens(hers, "alice");
    const other = await (await registeredApp(stack)).tokens(phone, "alice");
    const bobs = await app.tokens(his, "bob");
    for (const token of [tokens.access_token, other.access_token, bobs.access_token])
      for (const one of [stack, replica]) expect(await verifiedAt(one, token)).toEqual({ status: 200 });

    const page = await hers.open(signOutUrl);
    expect(parse(page.html).querySelector("button")?.text).toBe("Sign out everywhere");
    expect(page.html).toContain("the access of all applications you allowed");
    await hers.submit(page, {});

    for (const token of [tokens.access_token, other.access_token])
      for (const one of [stack, replica]) await rejectedWithinASecond(() => verifiedAt(one, token));
    for (const browser of [hers, phone]) expect(await whoami(browser)).toEqual({});
    expect((await app.refresh(tokens.refresh_token)).status).toBe(400);
    expect(await stack.store.authorizationServerRecords.grants({ userId })).toEqual([]);
    expect(await whoami(his)).toMatchObject({ userId: "company/bob" });
    expect(await verifiedAt(replica, bobs.access_token)).toEqual({ status: 200 });
    expect((await app.refresh(bobs.refresh_token)).status).toBe(200);
  });

  test("is in the audit trail: one event for each grant, and one for the person", async () => {
    const app = await registeredApp(stack);
    const browser = stack.browser();
    await app.tokens(browser, "alice");
    const before = (await stack.store.auditEvents({ limit: 1000 })).at(-1)?.id;
    await browser.submit(await browser.open(signOutUrl), {});
    const events = await stack.store.auditEvents({ after: before, limit: 100 });
    expect(
      events.map(({ action, userId: about, clientId, reason }) => [action, about, clientId, reason]),
    ).toEqual([
      ["grant.revoked", userId, app.clientId, "signed out by the user"],
      ["person.signed_out", userId, undefined, "signed out by the user"],
    ]);
    expect(new Set(events.map(({ requestId }) => requestId)).size).toBe(1);
  });

  test("a grant whose authorization is under way is not created afterwards", async () => {
    const app = await registeredApp(stack);
    const [browser, elsewhere] = [stack.browser(), stack.browser()];
    await app.tokens(elsewhere, "alice");
    await app.tokens(browser, "alice");
    await browser.submit(await browser.open(signOutUrl), {});
    const grant = { model: "Grant", id: "late", payload: { accountId: userId, clientId: app.clientId } };
    expect(await stack.store.authorizationServerRecords.upsertIfAllowed(grant)).toBe(false);
  });

  test("the page afterwards says what has ended, if the provider has no page of its own", async () => {
    const browser = stack.browser();
    await (await registeredApp(stack)).tokens(browser, "alice");
    const signedIn = await stack.store.signInSessions.find(userId);
    if (!signedIn) throw new Error("alice is not signed in");
    // Without an ID token, the provider cannot be asked to sign the user out.
    const { idToken: _, ...record } = signedIn;
    await stack.store.signInSessions.put(record);
    const end = await browser.submit(await browser.open(signOutUrl), {});
    expect(end.html).toContain("You are signed out everywhere");
    expect(end.html).toContain("the access of all applications that you allowed have ended");
  });

  test("the setting takes effect on reload", async () => {
    const browser = stack.browser();
    const app = await registeredApp(stack);
    const tokens = await app.tokens(browser, "alice");
    await stack.reload((yaml) => yaml.replace("ends: everything", "ends: browser"));
    const page = await browser.open(signOutUrl);
    await stack.reload((yaml) => yaml.replace("ends: browser", "ends: everything"));
    expect(parse(page.html).querySelector("button")?.text).toBe("Sign out");
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });
});
