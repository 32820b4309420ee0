import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createMetadataCache } from "../../src/upstream-oauth/metadata-cache.ts";
import type { CallerLike } from "../../src/upstream-token/upstream-tokens.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type ClientHouse, startClient } from "../upstream-oauth/start-client.ts";

const caller: CallerLike = { userId: alice, kind: "person" };

/** An upstream's authorization server chooses what we put into the header of every call, and keep in memory for each connection. */
describe("what an evil authorization server gives for a token", () => {
  let evil: ScriptedUpstream;
  let house: ClientHouse;
  beforeAll(async () => {
    evil = await scriptedUpstream();
    house = await startClient(`  - {id: files, from: https://mcp.test, to: ${evil.mcp}, mcp: {server: {}}}`);
  });
  afterAll(() => Promise.all([house?.close(), evil.close()]));
  beforeEach(async () => {
    for (const name of Object.keys(evil.tokenFields)) delete evil.tokenFields[name];
    await house.tokens.disconnect(alice, house.route());
  });
  const find = () => house.tokens.find(caller, house.route());

  it.each([
    ["ends its header and begins another", { access_token: "a\r\nx-pomerium-user: root" }],
    ["begins another request", { access_token: "a\r\n\r\nGET /admin HTTP/1.1\r\nhost: neighbour" }],
    ["has a NUL in it", { access_token: "a\u0000b" }],
    ["is not ASCII", { access_token: "tökén" }],
    ["would fill our memory", { access_token: "a".repeat(900_000) }],
    ["has a refresh token that would", { refresh_token: "a".repeat(900_000) }],
    ["comes in an answer that takes long to read", { padding: "x".repeat(200_000) }],
    ["is of a type that only JavaScript knows", { token_type: "constructor" }],
    ["is of the type of all types", { token_type: "__proto__" }],
  ])("a token that %s is none", async (_what, fields) => {
    Object.assign(evil.tokenFields, fields);
    await expect(house.connect(evil.agree)).rejects.toThrow(/gave no usable token/);
    expect(await find()).toMatchObject({ kind: "missing" });
  });

  it("nor is a document of its metadata read that takes long to", async () => {
    const cache = createMetadataCache({ entries: 10 });
    const deep = `{"issuer":"x","deep":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    const document = await cache.get("files", `${evil.url}/deep`, async () => new Response(deep));
    expect(document).toMatchObject({ status: 200, json: undefined });
  });

  it("nor does one come with a refresh", async () => {
    await house.connect(evil.agree);
    evil.tokenFields.access_token = "a\r\nx-pomerium-user: root";
    const later = await house.tokens.find(caller, house.route(), Date.now() + 3_601_000);
    expect(later).toMatchObject({ kind: "unavailable", reason: "token_invalid" });
  });

  it("of ten thousand scopes five hundred are kept, at a refresh too: every check may have to look through them", async () => {
    evil.tokenFields.scope = Array.from({ length: 10_000 }, (_, index) => `s${index}`).join(" ");
    await house.connect(evil.agree);
    const key = { userId: alice, routeId: "files", upstream: evil.mcp };
    const token = await house.store.upstreamTokens.find(key);
    expect(token?.scopes.length).toBe(500);
    const outcome = token && (await house.oauth.refresh(token, house.route()));
    expect(outcome?.kind === "refreshed" && outcome.token.scopes.length).toBe(500);
  });
});
