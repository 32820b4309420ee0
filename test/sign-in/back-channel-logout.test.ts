import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { registeredApp, type Tokens } from "../authorization-server/mcp-app.ts";
import { type House, startHouse } from "../authorization-server/start-house.ts";
import type { HttpBrowser } from "../support/http-browser.ts";

let house: House;
let browser: HttpBrowser;
let tokens: Tokens;
let app: Awaited<ReturnType<typeof registeredApp>>;
beforeAll(async () => {
  house = await startHouse();
  app = await registeredApp(house);
});
afterAll(() => house.close());
beforeEach(async () => {
  browser = house.browser();
  tokens = await app.tokens(browser, "alice");
});

/** A logout token signed by the company's own key. */
async function logoutToken(claims: Record<string, unknown>): Promise<string> {
  const { provider } = house.company;
  const client = await provider.Client.find("sidecar");
  if (!client) throw new Error("the company does not know us");
  const token = new provider.IdToken({}, { client, ctx: undefined });
  const event = {
    events: { "http://schemas.openid.net/event/backchannel-logout": {} },
    jti: crypto.randomUUID(),
  };
  for (const [name, value] of Object.entries({ ...event, ...claims })) {
    if (value !== undefined) token.set(name, value);
  }
  return token.issue({ use: "logout" });
}

const tell = (token: string) =>
  house.fetch("https://auth.test/.pomerium/sign_in/back_channel_logout", {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({ logout_token: token }).toString(),
  });
const whoami = async () => JSON.parse((await browser.open("https://auth.test/whoami")).html) as object;

describe("F2.1 back-channel logout", () => {
  test("ends the person's browser sessions, and has the company asked at the next refresh", async () => {
    expect((await tell(await logoutToken({ sub: "alice" }))).status).toBe(200);
    expect(await whoami()).toEqual({});
    const asked = house.company.counts.tokens.refresh_token ?? 0;
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    expect(house.company.counts.tokens.refresh_token).toBe(asked + 1);
  });

  test.each([
    ["names nobody", {}],
    ["reports something else", { sub: "alice", events: { other: {} } }],
    ["carries a nonce", { sub: "alice", nonce: "n" }],
    ["is old", { sub: "alice", iat: 1_600_000_000 }],
  ])("a token that %s is refused", async (_name, claims) => {
    expect((await tell(await logoutToken(claims))).status).toBe(400);
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
  });

  test("a token for another client is refused", async () => {
    const token = await logoutToken({ sub: "alice" });
    await house.reconfigure((yaml) => yaml.replace("client_id: sidecar", "client_id: somebody-else"));
    expect((await tell(token)).status).toBe(400);
    await house.reconfigure((yaml) => yaml.replace("client_id: somebody-else", "client_id: sidecar"));
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
  });

  test("a bent signature, or no token, is refused", async () => {
    const [header, payload, signature] = (await logoutToken({ sub: "alice" })).split(".");
    const bent = `${header}.${payload}.${signature?.split("").reverse().join("")}`;
    for (const token of [bent, `${header}.${payload}.`, "x", ""])
      expect((await tell(token)).status).toBe(400);
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
  });
});
