import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as client from "openid-client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type EverythingServer, everythingServer } from "../../../dev/demo/everything-server.ts";
import { openServer } from "../../../dev/demo/open-server.ts";
import {
  type UpstreamAuthorizationServer,
  upstreamAuthorizationServer,
} from "../../../dev/demo/upstream-authorization-server.ts";
import { httpBrowser } from "../../support/http-browser.ts";

const redirectUri = "https://everything.test/callback";
let authorizationServer: UpstreamAuthorizationServer;
let server: EverythingServer;

beforeAll(async () => {
  authorizationServer = await upstreamAuthorizationServer({
    clients: [{ client_id: "sidecar", client_secret: "a-long-secret", redirect_uris: [redirectUri] }],
  });
  server = await everythingServer({ authorizationServer });
});
afterAll(async () => {
  await server.close();
  await authorizationServer.close();
});

async function authorize(login: string, password: string, scope = "mcp:read") {
  const config = await client.discovery(
    new URL(authorizationServer.issuer),
    "sidecar",
    "a-long-secret",
    client.ClientSecretPost("a-long-secret"),
    { execute: [client.allowInsecureRequests] },
  );
  const verifier = client.randomPKCECodeVerifier();
  const location = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope,
    resource: server.url,
    state: "a-state",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  });
  const browser = httpBrowser({ fetch, stopAt: (url) => url.href.startsWith(redirectUri) });
  const page = await browser.agree(await browser.open(location), () => ({ login, password }));
  const checks = { pkceCodeVerifier: verifier, expectedState: "a-state" };
  return { config, tokens: await client.authorizationCodeGrant(config, page.url, checks) };
}

async function connect(token: string) {
  const mcp = new Client({ name: "test", version: "1.0.0" });
  const headers = { authorization: `Bearer ${token}` };
  await mcp.connect(new StreamableHTTPClientTransport(new URL(server.url), { requestInit: { headers } }));
  return mcp;
}

test("without a token, the challenge names its metadata", async () => {
  const response = await fetch(server.url, { method: "POST", body: "{}" });
  expect(response.status).toBe(401);
  const url = /resource_metadata="([^"]+)"/.exec(response.headers.get("www-authenticate") ?? "")?.[1];
  expect(await (await fetch(url ?? "")).json()).toMatchObject({
    resource: server.url,
    authorization_servers: [authorizationServer.issuer],
  });
});

test("with a token, it names the upstream account and streams what the test emits", async () => {
  const { tokens } = await authorize("ally", "looking-glass");
  const mcp = await connect(tokens.access_token);
  expect(await mcp.callTool({ name: "whoami" })).toMatchObject({ content: [{ text: "ally" }] });
  const heard: string[] = [];
  const first = Promise.withResolvers<void>();
  const call = mcp.callTool({ name: "follow" }, undefined, {
    onprogress: ({ message }) => {
      heard.push(message ?? "");
      first.resolve();
    },
  });
  await server.followed();
  server.emit("one");
  await first.promise;
  server.finish();
  expect(await call).toMatchObject({ content: [{ text: "followed 1" }] });
  expect(heard).toEqual(["one"]);
  await mcp.close();
});

test("a tool that requires more scopes answers 403 insufficient_scope", async () => {
  const { tokens } = await authorize("ally", "looking-glass");
  const response = await fetch(server.url, {
    method: "POST",
    headers: { authorization: `Bearer ${tokens.access_token}` },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "write_note" } }),
  });
  expect(response.status).toBe(403);
  expect(response.headers.get("www-authenticate")).toContain('scope="mcp:read mcp:write"');
});

test("reuse of a refresh token revokes the whole family", async () => {
  const { config, tokens } = await authorize("bobby", "hammer");
  const renewed = await client.refreshTokenGrant(config, tokens.refresh_token ?? "");
  expect(await authorizationServer.verify(renewed.access_token, server.url)).toMatchObject({
    account: "bobby",
  });
  await expect(client.refreshTokenGrant(config, tokens.refresh_token ?? "")).rejects.toMatchObject({
    error: "invalid_grant",
  });
  expect(await authorizationServer.verify(renewed.access_token, server.url)).toBeUndefined();
});

test("invalidated access tokens are rejected before they expire, and a refresh returns a new one", async () => {
  const { config, tokens } = await authorize("bobby", "hammer");
  await authorizationServer.killAccessTokens("bobby");
  expect(await authorizationServer.verify(tokens.access_token, server.url)).toBeUndefined();
  const renewed = await client.refreshTokenGrant(config, tokens.refresh_token ?? "");
  expect(await authorizationServer.verify(renewed.access_token, server.url)).toMatchObject({
    account: "bobby",
  });
});

test("denied consent reaches the client as access_denied", async () => {
  const config = await client.discovery(
    new URL(authorizationServer.issuer),
    "sidecar",
    undefined,
    undefined,
    {
      execute: [client.allowInsecureRequests],
    },
  );
  const browser = httpBrowser({ fetch, stopAt: (url) => url.href.startsWith(redirectUri) });
  const location = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: "mcp:read",
    resource: server.url,
    code_challenge: await client.calculatePKCECodeChallenge(client.randomPKCECodeVerifier()),
    code_challenge_method: "S256",
  });
  const signIn = await browser.open(location);
  const consent = await browser.submit(signIn, { login: "ally", password: "looking-glass" });
  const end = await browser.submit(consent, {}, "decision=deny");
  expect(end.url.searchParams.get("error")).toBe("access_denied");
});

test("the open server answers without a token, in plain JSON", async () => {
  const open = await openServer();
  const mcp = new Client({ name: "test", version: "1.0.0" });
  await mcp.connect(new StreamableHTTPClientTransport(new URL(open.url)));
  const answer = await mcp.callTool({ name: "greet", arguments: { name: "Ada" } });
  expect(answer).toMatchObject({ content: [{ text: "Hello, Ada!" }] });
  await mcp.close();
  await open.close();
});
