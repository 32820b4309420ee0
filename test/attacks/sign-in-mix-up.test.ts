import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type E2e, startE2e } from "../support/e2e.ts";
import { type HttpBrowser, httpBrowser } from "../support/http-browser.ts";
import { type ScriptedServer, scriptedServer } from "../upstream-oauth/scripted-server.ts";

const issuer = "https://auth.test";
const callback = `${issuer}/.pomerium/sign_in/callback`;

/** RFC 9700 section 4.4: a partner's provider tries to sign its user in as a person of the company. */
describe("mix-up of two sign-in providers", () => {
  let stack: E2e;
  let partner: ScriptedServer;
  let tokenRequests: URLSearchParams[];
  beforeAll(async () => {
    partner = await scriptedServer();
    const { url } = partner;
    partner.on("/.well-known/openid-configuration", {
      body: {
        issuer: url,
        authorization_endpoint: `${url}/authorize`,
        token_endpoint: `${url}/token`,
        jwks_uri: `${url}/jwks`,
        response_types_supported: ["code"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
      },
    });
    tokenRequests = [];
    partner.on("/token", ({ form }) => {
      tokenRequests.push(form);
      return { status: 400, body: { error: "invalid_grant" } };
    });
    stack = await startE2e({
      signInRedirectUris: [`${callback}/company`],
      config: (config) => {
        const { providers } = config.sign_in as { providers: object[] };
        const added = {
          id: "partner",
          name: "Partner",
          issuer: url,
          client_id: "gateway",
          client_secret: "s",
        };
        return { ...config, sign_in: { providers: [...providers, added] } };
      },
    });
  });
  afterAll(async () => {
    await stack?.close();
    await partner.close();
  });

  const start = (provider: string) => `${issuer}/.pomerium/sign_in?provider=${provider}&return_to=/&switch=1`;
  /** The partner's authorization endpoint redirects to this URL, created from the request's state. */
  function partnerSends(to: (state: string) => URL): void {
    partner.on("/authorize", ({ query }) => ({
      status: 302,
      headers: { location: to(query.get("state") ?? "").href },
    }));
  }
  /** Alice is signed in, also at the company, and the attacker's page opens the partner's sign-in in her browser. */
  async function alicesBrowser(stopAt?: (url: URL) => boolean): Promise<HttpBrowser> {
    const alice = httpBrowser({ fetch: stack.fetch, stopAt });
    const home = await alice.agree(await alice.open(start("company")), stack.signIn("alice"));
    expect(home.url.pathname).toBe("/");
    return alice;
  }

  it("the partner redirects the browser to the company's provider with its own user's request: it gets no code", async () => {
    const mallory = httpBrowser({
      fetch: stack.fetch,
      stopAt: ({ origin }) => origin === stack.openid.issuer,
    });
    const his = (await mallory.open(start("company"))).url;
    expect(his.origin).toBe(stack.openid.issuer);
    partnerSends((state) => {
      const detour = new URL(his);
      detour.searchParams.set("state", state);
      detour.searchParams.delete("prompt");
      return detour;
    });
    const alice = await alicesBrowser();
    const page = await alice.agree(await alice.open(start("partner")), stack.signIn("alice"));
    expect(page.url.searchParams.get("code")).toBeTruthy();
    expect(page.html).toContain("wrong_callback");
    expect(tokenRequests).toEqual([]);
  });

  it.each(["", "/company", "/nobody"])(
    "a response for the partner at the callback %j is rejected, also an error",
    async (path) => {
      for (const answer of ["code=x", "error=access_denied"]) {
        partnerSends((state) => new URL(`${callback}${path}?${answer}&state=${encodeURIComponent(state)}`));
        const page = await (await alicesBrowser()).open(start("partner"));
        expect(page.status).toBe(400);
        expect(page.html).toContain("wrong_callback");
      }
      expect(tokenRequests).toEqual([]);
    },
  );

  it("a response at the partner's callback is accepted as the partner's", async () => {
    partnerSends((state) => new URL(`${callback}/partner?${new URLSearchParams({ code: "own", state })}`));
    await (await alicesBrowser()).open(start("partner"));
    expect(tokenRequests.map((form) => [form.get("code"), form.get("redirect_uri")])).toEqual([
      ["own", `${callback}/partner`],
    ]);
  });

  it("login CSRF: a link makes the partner sign its user in in Alice's browser: she is asked before her session is replaced", async () => {
    const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
    const nonces = new Map<string, string>();
    partner.on("/jwks", { body: { keys: [{ ...(await exportJWK(publicKey)), kid: "k", alg: "RS256" }] } });
    partner.on("/authorize", ({ query }) => {
      nonces.set("his", query.get("nonce") ?? "");
      const answer = new URLSearchParams({ code: "his", state: query.get("state") ?? "" });
      return { status: 302, headers: { location: `${callback}/partner?${answer}` } };
    });
    const idToken = async () =>
      new SignJWT({ nonce: nonces.get("his") })
        .setProtectedHeader({ alg: "RS256", kid: "k" })
        .setIssuer(partner.url)
        .setSubject("mallory")
        .setAudience("gateway")
        .setIssuedAt()
        .setExpirationTime("5m")
        .sign(privateKey);
    partner.on("/token", async () => ({
      body: { access_token: "a", token_type: "Bearer", id_token: await idToken() },
    }));
    const alice = await alicesBrowser();
    const page = await alice.open(start("partner"));
    expect(page.html).toContain("Continue as partner/mallory?");
    const stillHers = await alice.open(`${issuer}/.pomerium/sign_out`);
    expect(stillHers.html).toContain("alice@example.com");
    // The answer requires this browser session's form token, and is valid once.
    expect((await alice.submit(page, { csrf: "x" })).status).toBe(400);
    const switched = await alice.submit(page, {});
    expect(switched.url.pathname).toBe("/");
    expect((await alice.open(`${issuer}/.pomerium/sign_out`)).html).toContain("partner/mallory");
    expect((await alice.submit(page, {})).status).toBe(400);
  });
});
