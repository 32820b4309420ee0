import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Listener, listen } from "../../deploy/demo/listen.ts";
import {
  type UpstreamAuthorizationServer,
  upstreamAuthorizationServer,
} from "../../deploy/demo/upstream-authorization-server.ts";
import { httpBrowser } from "../support/http-browser.ts";
import { alice, type ClientHouse, startClient } from "./start-client.ts";

const ally = { login: "ally", password: "looking-glass" };

describe("with a real authorization server (oidc-provider)", () => {
  let server: UpstreamAuthorizationServer;
  let mcp: Listener;
  let house: ClientHouse;
  const resource = () => `${mcp.url}/mcp`;
  beforeEach(async () => {
    server = await upstreamAuthorizationServer({ clients: [], dynamicRegistration: true });
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
    house = await startClient(
      `  - {id: files, from: https://mcp.test, to: ${mcp.url}/mcp, mcp: {server: {}}}`,
    );
  });
  afterEach(async () => {
    await Promise.all([server.close(), mcp.close(), house.close()]);
  });

  /** A person signs in there and answers its consent page; the callback's parameters. */
  async function trip(decision: "allow" | "deny") {
    const begun = await house.oauth.begin({
      userId: alice,
      route: house.route(),
      returnTo: "https://mcp.test/",
    });
    if (!begun.ok) throw new Error(begun.message);
    const browser = httpBrowser({ fetch: globalThis.fetch, stopAt: ({ host }) => host === "mcp.test" });
    const signIn = await browser.open(begun.location);
    const consent = await browser.submit(signIn, ally);
    const back = await browser.submit(consent, {}, `decision=${decision}`);
    return house.oauth.finish({
      params: back.url.searchParams,
      host: "mcp.test",
      userId: alice,
      browserState: begun.state,
    });
  }
  const token = () =>
    house.store.upstreamTokens.find({ userId: alice, routeId: "files", upstream: resource() });
  const find = (now?: number) => house.tokens.find({ userId: alice, kind: "person" }, house.route(), now);

  it("F4.1 to F4.7 discovered, registered, consented, used, refreshed, revoked", async () => {
    expect(await trip("allow")).toMatchObject({ ok: true });
    const first = await token();
    expect(await server.verify(first?.accessToken ?? "", resource())).toMatchObject({ account: "ally" });
    expect(first?.refreshToken).toBeDefined();
    expect(await find(Date.now() + 3_601_000)).toMatchObject({ kind: "credential" });
    const second = await token();
    expect(second?.refreshToken).not.toBe(first?.refreshToken);
    expect(await server.verify(second?.accessToken ?? "", resource())).toMatchObject({ account: "ally" });
    expect(await house.tokens.disconnect(alice, house.route())).toBe(true);
    expect(server.counts.revocations).toBeGreaterThan(0);
    expect(await server.verify(second?.accessToken ?? "", resource())).toBeUndefined();
    expect(server.counts).toMatchObject({ registrations: 1, refusals: {} });
  });

  it("F3.6 the person refuses: access_denied, named by its issuer", async () => {
    expect(await trip("deny")).toMatchObject({ ok: false, oauthError: "access_denied" });
    expect(await token()).toBeUndefined();
  });

  it("F8.3 access revoked there, not yet expired: one refresh, then consent is really asked for", async () => {
    await trip("allow");
    const refuse = async () =>
      house.tokens.upstreamRefused({
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
