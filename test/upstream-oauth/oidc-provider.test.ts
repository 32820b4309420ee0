import { generateKeyPairSync } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import {
  type UpstreamAuthorizationServer,
  upstreamAuthorizationServer,
} from "../../dev/demo/upstream-authorization-server.ts";
import { callbackId } from "../../src/config/callback-urls.ts";
import { httpBrowser } from "../support/http-browser.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "./start-oauth-client.ts";

const ally = { login: "ally", password: "looking-glass" };

describe("with a real authorization server (oidc-provider)", () => {
  let server: UpstreamAuthorizationServer;
  let mcp: Listener;
  let stack: OAuthClientStack;
  const resource = () => `${mcp.url}/mcp`;
  /** @param yaml `mcp.server` of the route */
  async function start(
    options: Partial<Parameters<typeof upstreamAuthorizationServer>[0]>,
    yaml = (_issuer: string) => "{}",
    settings?: string,
  ) {
    server = await upstreamAuthorizationServer({ clients: [], ...options });
    mcp = await listen((request, response) => {
      const prm = `${mcp.url}/.well-known/oauth-protected-resource/mcp`;
      if (request.url === "/.well-known/oauth-protected-resource/mcp") {
        const body = {
          resource: resource(),
          authorization_servers: [server.issuer],
          scopes_supported: ["mcp:read"],
        };
        response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
        return;
      }
      response.writeHead(401, { "www-authenticate": `Bearer resource_metadata="${prm}"` }).end();
    });
    stack = await startOAuthClient(
      `  - {id: files, from: https://mcp.test, to: ${mcp.url}/mcp, mcp: {server: ${yaml(server.issuer)}}}`,
      { settings },
    );
  }
  afterEach(async () => {
    await Promise.all([server.close(), mcp.close(), stack.close()]);
  });

  /** Signs in there and answers the consent page; returns the callback's parameters. */
  async function trip(decision: "allow" | "deny") {
    const begun = await stack.upstreamOAuth.begin({
      userId: alice,
      route: stack.route(),
      returnTo: "https://mcp.test/",
    });
    if (!begun.ok) throw new Error(begun.message);
    const browser = httpBrowser({ fetch: globalThis.fetch, stopAt: ({ host }) => host === "mcp.test" });
    const signIn = await browser.open(begun.location);
    const consent = await browser.submit(signIn, ally);
    const back = await browser.submit(consent, {}, `decision=${decision}`);
    return stack.upstreamOAuth.finish({
      params: back.url.searchParams,
      callback: back.url.origin + back.url.pathname,
      host: "mcp.test",
      userId: alice,
      browserState: begun.state,
    });
  }
  const token = () =>
    stack.store.upstreamTokens.find({ userId: alice, routeId: "files", upstream: resource() });
  const find = (now?: number) =>
    stack.upstreamTokens.find({ userId: alice, kind: "person" }, stack.route(), now);

  /** Consents, uses, refreshes and revokes a token, and expects no rejection there. */
  async function wholeLife() {
    expect(await trip("allow")).toMatchObject({ ok: true });
    const first = await token();
    expect(await server.verify(first?.accessToken ?? "", resource())).toMatchObject({ account: "ally" });
    expect(first?.refreshToken).toBeDefined();
    expect(await find(Date.now() + 3_601_000)).toMatchObject({ kind: "credential" });
    const second = await token();
    expect(second?.refreshToken).not.toBe(first?.refreshToken);
    expect(await server.verify(second?.accessToken ?? "", resource())).toMatchObject({ account: "ally" });
    expect(await stack.upstreamTokens.disconnect(alice, stack.route())).toBe(true);
    expect(server.counts.revocations).toBeGreaterThan(0);
    expect(await server.verify(second?.accessToken ?? "", resource())).toBeUndefined();
    expect(server.counts.refusals).toEqual({});
  }

  describe("that registers clients", () => {
    beforeEach(() => start({ dynamicRegistration: true }));

    it("discovered, registered, consented, used, refreshed, revoked", async () => {
      await wholeLife();
      expect(server.counts.registrations).toBe(1);
    });

    it("the user denies access: access_denied, with its issuer", async () => {
      expect(await trip("deny")).toMatchObject({ ok: false, oauthError: "access_denied" });
      expect(await token()).toBeUndefined();
    });

    it("access revoked there, not yet expired: one refresh, then a consent challenge", async () => {
      await trip("allow");
      const refuse = async () =>
        stack.upstreamTokens.handleRejection({
          userId: alice,
          routeId: "files",
          version: (await token())?.version,
          status: 401,
          wwwAuthenticate: 'Bearer error="invalid_token"',
        });
      await server.killAccessTokens("ally");
      expect(await refuse()).toMatchObject({ kind: "retry" });
      expect(await server.verify((await token())?.accessToken ?? "", resource())).toBeDefined();
      await server.revokeGrants("ally");
      expect(await refuse()).toMatchObject({ kind: "consent" });
      expect(await find()).toMatchObject({ kind: "missing" });
      expect(await trip("allow")).toMatchObject({ ok: true });
      expect(await find()).toMatchObject({ kind: "credential" });
    });
  });

  describe("that takes signed assertions only (private_key_jwt)", () => {
    const clientAuthMethods = ["private_key_jwt" as const];
    const redirectUri = "https://mcp.test/.pomerium/mcp/client/oauth/callback";
    const clientBase = "https://mcp.test/.pomerium/mcp/client";
    const documentUrl = () => `${clientBase}/${callbackId(stack.route(), server.issuer)}/confidential.json`;
    /** The server's view of the published documents. */
    const fetch: typeof globalThis.fetch = async (input) => {
      const url = input instanceof Request ? input.url : String(input);
      if (url === `${clientBase}/jwks.json`) return Response.json(stack.upstreamOAuth.clientJwks());
      if (url === documentUrl())
        return Response.json(
          stack.upstreamOAuth.clientMetadataDocument("mcp.test", {
            id: callbackId(stack.route(), server.issuer),
            confidential: true,
          }),
        );
      return new Response("no", { status: 404 });
    };

    it("registered with `jwks_uri`; the newest of several keys signs", async () => {
      await start({ dynamicRegistration: true, clientAuthMethods, fetch });
      // Now there are two keys with different ids.
      await stack.keys.rotate("upstream_client", 0, 3_600);
      await wholeLife();
      expect(server.counts.registrations).toBe(1);
    });

    it("a server that temporarily cannot read the keys causes no new consent; one that lost the client does", async () => {
      await start({ dynamicRegistration: true, clientAuthMethods, fetch });
      await trip("allow");
      // It has just cached the old key, and does not fetch the keys again yet.
      await stack.keys.rotate("upstream_client", 0, 0);
      const expired = Date.now() + 3_601_000;
      expect(await find(expired)).toMatchObject({ kind: "unavailable", reason: "client_rejected" });
      expect(await trip("allow")).toMatchObject({ ok: false, code: "client_rejected" });
      const kept = await token();
      if (!kept) throw new Error("the connection is lost");
      // An old registration is kept too, with its connections.
      await stack.store.clientRegistrations.update(
        server.issuer,
        kept.redirectUri ?? "",
        kept.clientId,
        (one) => ({ ...one, metadata: {} }),
      );
      expect(await trip("allow")).toMatchObject({ ok: false, code: "client_rejected" });
      expect(server.counts.registrations).toBe(1);
      const longAgo = new Date(Date.now() - 20 * 60_000);
      await stack.store.upstreamTokens.put(
        { ...kept, expiresAt: longAgo },
        { action: "upstream_token.obtained" },
      );
      // This connection is in backoff for a minute.
      const other = await stack.replica();
      const found = await other.upstreamTokens.find({ userId: alice, kind: "person" }, stack.route());
      expect(found).toMatchObject({ kind: "missing", reason: "client_registration_lost" });
      expect(await trip("allow")).toMatchObject({ ok: true });
      expect(server.counts.registrations).toBe(2);
    });

    it("known by the document of the confidential client", async () => {
      const settings =
        "upstream_oauth: {allowed_private_hosts: [127.0.0.1], client_id_metadata_document: always}";
      await start({ clientIdMetadataDocuments: true, clientAuthMethods, fetch }, undefined, settings);
      await wholeLife();
      expect((await server.provider.Client.find(documentUrl()))?.clientAuthMethod).toBe("private_key_jwt");
    });

    it("a client registered by hand: with a key of the routes file, or with the gateway's", async () => {
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      const common = { redirect_uris: [redirectUri], token_endpoint_auth_method: "private_key_jwt" as const };
      const jwk = { ...publicKey.export({ format: "jwk" }), alg: "EdDSA", use: "sig" };
      await start(
        {
          clientAuthMethods,
          fetch,
          clients: [
            { ...common, client_id: "own", jwks: { keys: [jwk] } },
            { ...common, client_id: "ours", jwks_uri: `${clientBase}/jwks.json` },
          ],
        },
        () => {
          const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
          return `{upstream_oauth2: {client_id: own, private_key: ${JSON.stringify(pem)}, signing_alg: EdDSA}}`;
        },
      );
      await wholeLife();
      const endpoint = `{auth_url: "${server.issuer}/auth", token_url: "${server.issuer}/token", revocation_url: "${server.issuer}/token/revocation", auth_style: private_key_jwt}`;
      await stack.reconfigure(
        `  - {id: files, from: https://mcp.test, to: ${mcp.url}/mcp, mcp: {server: {upstream_oauth2: {client_id: ours, scopes: ["mcp:read"], endpoint: ${endpoint}}}}}`,
      );
      await wholeLife();
    });
  });
});
