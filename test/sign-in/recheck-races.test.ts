import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createSignIn } from "../../src/sign-in/create-sign-in.ts";
import type { Recheck } from "../../src/sign-in/sign-in.ts";
import { type McpApp, registeredApp, type Tokens } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import { logger } from "../store/backends.ts";
import type { HttpBrowser } from "../support/http-browser.ts";

const userId = "company/alice";

describe("during a recheck", () => {
  let stack: AuthorizationServerStack;
  let app: McpApp;
  let tokens: Tokens;
  beforeAll(async () => {
    stack = await startAuthorizationServer();
    app = await registeredApp(stack);
  });
  afterAll(() => stack.close());
  beforeEach(async () => {
    say(["engineering"]);
    tokens = await app.tokens(stack.browser(), "alice");
    await stack.ageSignIn(userId, 3700);
  });

  const asked = () => stack.company.counts.tokens.refresh_token ?? 0;
  const stored = () => stack.store.signInSessions.find(userId);
  const whoami = async (browser: HttpBrowser) =>
    JSON.parse((await browser.open("https://auth.test/whoami")).html) as object;
  /** What the provider reports about alice from now on. */
  function say(groups: string[]): void {
    const alice = stack.company.accounts.find(({ login }) => login === "alice");
    if (alice) alice.groups = groups;
  }

  /** A recheck whose answer, or `instead`, arrives only after `meanwhile` has run. */
  async function recheckWhile(meanwhile: () => Promise<unknown>, instead?: Response): Promise<Recheck> {
    const [answered, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let held = false;
    const { routes, store } = stack;
    const signIn = createSignIn({
      ...{ routes, store, logger },
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        if (held || !String(await new Response(init?.body).text()).includes("grant_type=refresh_token"))
          return response;
        held = true;
        answered.resolve();
        await goOn.promise;
        return instead ?? response;
      },
    });
    try {
      const outcome = signIn.recheck(userId);
      await answered.promise;
      await meanwhile();
      goOn.resolve();
      return await outcome;
    } finally {
      goOn.resolve();
      signIn.close();
    }
  }

  test("groups and tokens of a new sign-in are kept", async () => {
    let fresh: Awaited<ReturnType<typeof stored>>;
    const outcome = await recheckWhile(async () => {
      say(["contractors"]);
      await app.tokens(stack.browser(), "alice");
      fresh = await stored();
    });
    expect(outcome).toBe("ok");
    expect(fresh?.groups).toEqual(["contractors"]);
    expect(await stored()).toEqual(fresh);
  });

  test("a rejection of the older tokens does not end a new sign-in", async () => {
    const browser = stack.browser();
    const refused = Response.json({ error: "invalid_grant" }, { status: 400 });
    expect(await recheckWhile(() => app.tokens(browser, "alice"), refused)).toBe("ok");
    expect(await whoami(browser)).toMatchObject({ userId });
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
  });

  test("a user who is signed out by an operator stays signed out", async () => {
    const outcome = await recheckWhile(async () => {
      await stack.store.endAccessOfPerson(userId, { action: "person.signed_out" });
    });
    expect(outcome).toBe("sign_in_again");
    expect(await stored()).toBeUndefined();
  });

  test("a request for another recheck is not lost, nor are the tokens of the answer", async () => {
    const [before, count] = [await stored(), asked()];
    const outcome = await recheckWhile(async () => {
      const record = await stored();
      // As a logout token does.
      expect(
        record && (await stack.store.signInSessions.claimCheck(userId, record.checkedAt, new Date(0))),
      ).toBe(true);
    });
    expect(outcome).toBe("ok");
    const after = await stored();
    expect(after?.checkedAt).toEqual(new Date(0));
    expect(after?.refreshToken).not.toBe(before?.refreshToken);
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    expect(asked() - count).toBe(2);
  });
});
