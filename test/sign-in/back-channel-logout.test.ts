import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { OidcServer } from "../../dev/demo/oidc-server.ts";
import { openidProvider } from "../../dev/demo/openid-provider.ts";
import { registeredApp, type Tokens } from "../authorization-server/mcp-app.ts";
import {
  type AuthorizationServerStack,
  startAuthorizationServer,
} from "../authorization-server/start-authorization-server.ts";
import type { HttpBrowser } from "../support/http-browser.ts";

/** The provider's keys: with a supported and an unsupported algorithm. */
const keys = {
  RS256: await generateKeyPair("RS256", { extractable: true }),
  "ML-DSA-44": await generateKeyPair("ML-DSA-44", { extractable: true }),
};
const published = await Promise.all(
  Object.entries(keys).map(async ([alg, { privateKey }]) => ({
    ...(await exportJWK(privateKey)),
    alg,
    use: "sig",
    kid: alg,
  })),
);

let stack: AuthorizationServerStack;
let browser: HttpBrowser;
let tokens: Tokens;
let app: Awaited<ReturnType<typeof registeredApp>>;
beforeAll(async () => {
  stack = await startAuthorizationServer("", { companyKeys: published, interruptible: true });
  app = await registeredApp(stack);
});
afterAll(() => stack.close());
beforeEach(async () => {
  browser = stack.browser();
  tokens = await app.tokens(browser, "alice");
});

const now = () => Math.floor(Date.now() / 1000);
/** A valid logout token for alice, except for `claims`, signed by the provider. */
function logoutToken(
  claims: Record<string, unknown> = {},
  alg: keyof typeof keys = "RS256",
): Promise<string> {
  const good = {
    iss: stack.company.issuer,
    aud: "sidecar",
    sub: "alice",
    iat: now(),
    exp: now() + 120,
    jti: crypto.randomUUID(),
    events: { "http://schemas.openid.net/event/backchannel-logout": {} },
  };
  const header = { alg, kid: alg, typ: "logout+jwt" };
  return new SignJWT({ ...good, ...claims }).setProtectedHeader(header).sign(keys[alg].privateKey);
}
/** A logout token as issued by oidc-provider. */
async function providersToken({ provider }: OidcServer, sub: string): Promise<string> {
  const client = await provider.Client.find("sidecar");
  if (!client) throw new Error("the provider does not know us");
  const token = new provider.IdToken({}, { client, ctx: undefined });
  token.set("sub", sub);
  token.set("jti", crypto.randomUUID());
  token.set("events", { "http://schemas.openid.net/event/backchannel-logout": {} });
  return token.issue({ use: "logout" });
}

const postLogoutToken = (token: string) =>
  stack.fetch("https://auth.test/.pomerium/sign_in/back_channel_logout", {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({ logout_token: token }).toString(),
  });
const whoami = async () => JSON.parse((await browser.open("https://auth.test/whoami")).html) as object;

describe("back-channel logout", () => {
  test("a replayed logout token does not end later sessions, on any replica", async () => {
    const token = await logoutToken({ jti: "replayed" });
    expect((await postLogoutToken(token)).status).toBe(200);
    await app.tokens(browser, "alice");
    expect((await postLogoutToken(token)).status).toBe(400);
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
    // Only the database knows of the first use.
    expect(await stack.store.usedValues.isTaken("logout_token", '["company","replayed"]')).toBe(true);
  });

  test("a logout token that is sent again after our failure still works", async () => {
    const token = await logoutToken();
    await stack.databaseProxy.cut();
    expect((await postLogoutToken(token)).status).not.toBe(200);
    await stack.databaseProxy.restore();
    await expect.poll(async () => (await postLogoutToken(token)).status, { timeout: 60_000 }).toBe(200);
    expect(await whoami()).toEqual({});
  });

  test("ends the user's browser sessions, and causes a recheck at the next refresh", async () => {
    expect((await postLogoutToken(await providersToken(stack.company, "alice"))).status).toBe(200);
    expect(await whoami()).toEqual({});
    const asked = stack.company.counts.tokens.refresh_token ?? 0;
    expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
    expect(stack.company.counts.tokens.refresh_token).toBe(asked + 1);
  });

  test("ends the user's grants, too, with sign_out.ends: everything", async () => {
    await stack.reload((yaml) => `${yaml}\nsign_out: {ends: everything}\n`);
    expect((await postLogoutToken(await logoutToken())).status).toBe(200);
    await stack.reload((yaml) => yaml.replace("\nsign_out: {ends: everything}\n", ""));
    expect(await whoami()).toEqual({});
    expect((await app.refresh(tokens.refresh_token)).status).toBe(400);
    expect(await stack.store.authorizationServerRecords.grants({ userId: "company/alice" })).toEqual([]);
  });

  test.each<[string, Record<string, unknown>, keyof typeof keys]>([
    ["names no user", { sub: undefined }, "RS256"],
    ["names the user by a number", { sub: undefined, sid: 7 }, "RS256"],
    ["reports no event", { events: undefined }, "RS256"],
    ["reports another event", { events: { other: {} } }, "RS256"],
    ["has a nonce", { nonce: "n" }, "RS256"],
    ["is old", { iat: 1_600_000_000 }, "RS256"],
    ["has no time of issue", { iat: undefined }, "RS256"],
    ["has expired", { exp: 1_600_000_000 }, "RS256"],
    ["never expires", { exp: undefined }, "RS256"],
    ["has no id", { jti: undefined }, "RS256"],
    ["is another client's", { aud: "somebody-else" }, "RS256"],
    ["is from an unknown provider", { iss: "https://login.test" }, "RS256"],
    ["has no issuer", { iss: undefined }, "RS256"],
    ["is signed with an unsupported algorithm", {}, "ML-DSA-44"],
  ])("a token that %s is rejected", async (_name, claims, alg) => {
    expect((await postLogoutToken(await logoutToken(claims, alg))).status).toBe(400);
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
    // The only fault.
    expect((await postLogoutToken(await logoutToken())).status).toBe(200);
    expect(await whoami()).toEqual({});
  });

  test("a provider cannot sign out users of another", async () => {
    const redirect_uris = ["https://auth.test/.pomerium/sign_in/callback"];
    const other = await openidProvider({
      clients: [{ client_id: "sidecar", client_secret: "s".repeat(32), redirect_uris }],
    });
    const entry = `{id: other, name: Other, issuer: "${other.issuer}", client_id: sidecar, client_secret: s}`;
    await stack.reload((yaml) => yaml.replace("providers:", `providers:\n    - ${entry}`));
    // With the other's issuer and its own key.
    expect((await postLogoutToken(await logoutToken({ iss: other.issuer }))).status).toBe(400);
    // The other provider has an alice, too.
    expect((await postLogoutToken(await providersToken(other, "alice"))).status).toBe(200);
    await stack.reload((yaml) => yaml.replace(`\n    - ${entry}`, ""));
    await other.close();
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
  });

  test("a token for another client is rejected", async () => {
    const token = await providersToken(stack.company, "alice");
    await stack.reload((yaml) => yaml.replace("client_id: sidecar", "client_id: somebody-else"));
    expect((await postLogoutToken(token)).status).toBe(400);
    await stack.reload((yaml) => yaml.replace("client_id: somebody-else", "client_id: sidecar"));
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
  });

  test("a modified signature, or no token, is rejected", async () => {
    const [header, payload, signature] = (await logoutToken()).split(".");
    const bent = `${header}.${payload}.${signature?.split("").reverse().join("")}`;
    for (const token of [bent, `${header}.${payload}.`, "x", ""])
      expect((await postLogoutToken(token)).status).toBe(400);
    expect(await whoami()).toMatchObject({ userId: "company/alice" });
  });
});
