import * as client from "openid-client";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { OidcServer } from "../../../dev/demo/oidc-server.ts";
import { openidProvider } from "../../../dev/demo/openid-provider.ts";
import { httpBrowser } from "../../support/http-browser.ts";

const redirectUri = "https://auth.test/callback";
const afterSignOut = "https://auth.test/";
let provider: OidcServer;

beforeAll(async () => {
  provider = await openidProvider({
    clients: [
      {
        client_id: "sidecar",
        client_secret: "a-long-secret",
        redirect_uris: [redirectUri],
        post_logout_redirect_uris: [afterSignOut],
      },
    ],
  });
});
afterAll(() => provider.close());

async function signIn(login: string, password: string) {
  const config = await client.discovery(
    new URL(provider.issuer),
    "sidecar",
    "a-long-secret",
    client.ClientSecretBasic("a-long-secret"),
    { execute: [client.allowInsecureRequests] },
  );
  const verifier = client.randomPKCECodeVerifier();
  const location = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: "openid email profile groups",
    state: "a-state",
    nonce: "a-nonce",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  });
  const browser = httpBrowser({ fetch, stopAt: (url) => url.host === "auth.test" });
  const page = await browser.agree(await browser.open(location), () => ({ login, password }));
  const tokens = await client.authorizationCodeGrant(config, page.url, {
    pkceCodeVerifier: verifier,
    expectedState: "a-state",
    expectedNonce: "a-nonce",
  });
  return { config, tokens, browser };
}

test("the company's provider signs alice in and names her e-mail and groups", async () => {
  const { tokens } = await signIn("alice", "wonderland");
  expect(tokens.claims()).toMatchObject({
    sub: "alice",
    email: "alice@example.com",
    name: "Alice Liddell",
    groups: ["engineering", "everyone"],
  });
});

test("its refresh token returns changed groups, until the account is removed", async () => {
  const { config, tokens } = await signIn("bob", "builder");
  const bob = provider.accounts.find((account) => account.login === "bob");
  if (bob) bob.groups = ["promoted"];
  const renewed = await client.refreshTokenGrant(config, tokens.refresh_token ?? "");
  expect(renewed.claims()).toMatchObject({ groups: ["promoted"] });
  provider.dismiss("bob");
  await expect(client.refreshTokenGrant(config, renewed.refresh_token ?? "")).rejects.toMatchObject({
    error: "invalid_grant",
  });
});

test("signing out at the provider returns to the relying party and ends the session", async () => {
  const { config, tokens, browser } = await signIn("alice", "wonderland");
  const location = client.buildEndSessionUrl(config, {
    id_token_hint: tokens.id_token ?? "",
    post_logout_redirect_uri: afterSignOut,
  });
  const question = await browser.open(location);
  const signedIn = await browser.jar.getCookieString(provider.issuer);
  const end = await browser.submit(question, {}, "logout=yes");
  expect(end.url.href).toBe(afterSignOut);
  expect(await browser.jar.getCookieString(provider.issuer)).not.toBe(signedIn);
});

test("a simulated outage returns its status until it ends", async () => {
  provider.outage(503);
  expect((await fetch(`${provider.issuer}/jwks`)).status).toBe(503);
  provider.outage(undefined);
  expect((await fetch(`${provider.issuer}/jwks`)).status).toBe(200);
});
