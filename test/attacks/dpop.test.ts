import { createHash } from "node:crypto";
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, EmbeddedJWK, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TokenCaller } from "../../src/upstream-tokens/upstream-tokens.ts";
import type { Seen } from "../upstream-oauth/scripted-server.ts";
import { type ScriptedUpstream, scriptedUpstream } from "../upstream-oauth/scripted-upstream.ts";
import { alice, type OAuthClientStack, startOAuthClient } from "../upstream-oauth/start-oauth-client.ts";

const bob = "company/bob";
const person = (userId: string): TokenCaller => ({ userId, kind: "person" });

/** RFC 9449: two tenants of one host and a separate server all require key-bound tokens; one of them attacks. */
describe("key-bound tokens", () => {
  let host: ScriptedUpstream;
  let other: ScriptedUpstream;
  let stack: OAuthClientStack;
  beforeAll(async () => {
    [host, other] = await Promise.all([scriptedUpstream(), scriptedUpstream()]);
    for (const [server, tenants] of [
      [host, ["evil", "honest"]],
      [other, ["other"]],
    ] as const) {
      server.tokenFields.token_type = "DPoP";
      for (const tenant of tenants) {
        server.on(`/mcp/${tenant}`, { status: 401, headers: { "www-authenticate": "DPoP" } });
        server.on(`/.well-known/oauth-protected-resource/mcp/${tenant}`, {
          body: {
            resource: `${server.mcp}/${tenant}`,
            authorization_servers: [server.url],
            dpop_bound_access_tokens_required: true,
          },
        });
      }
    }
    const route = (id: string, { mcp }: ScriptedUpstream) =>
      `  - {id: ${id}, from: https://mcp.test/${id}, to: "${mcp}/${id}", mcp: {server: {}}}\n`;
    stack = await startOAuthClient(route("evil", host) + route("honest", host) + route("other", other));
    await stack.connect(host.agree, alice, "evil");
    await stack.connect(host.agree, alice, "honest");
    await stack.connect(host.agree, bob, "honest");
    await stack.connect(other.agree, alice, "other");
  });
  afterAll(() => Promise.all([stack?.close(), host.close(), other.close()]));

  async function credential(userId: string, routeId: string) {
    const found = await stack.upstreamTokens.find(person(userId), stack.route(routeId));
    if (found.kind !== "credential" || !found.proof) throw new Error("no proof");
    return { ...found, proof: found.proof };
  }
  async function proof(userId: string, routeId: string, path = "", method = "POST") {
    const made = (await credential(userId, routeId)).proof;
    const [[, value] = ["", ""]] = await made(method, `${stack.route(routeId).upstream}${path}`);
    const { payload } = await jwtVerify<{ nonce?: string; ath: string; htu: string; htm: string }>(
      value,
      EmbeddedJWK,
      { typ: "dpop+jwt", algorithms: ["ES256"] },
    );
    const { jwk } = decodeProtectedHeader(value);
    return { ...payload, jwk, thumbprint: await calculateJwkThumbprint(jwk ?? { kty: "" }) };
  }
  async function wantsNonce(routeId: string, dpopNonce: string) {
    return stack.upstreamTokens.handleRejection({
      userId: alice,
      routeId,
      version: (await credential(alice, routeId)).version,
      status: 401,
      wwwAuthenticate: 'DPoP error="use_dpop_nonce"',
      dpopNonce,
    });
  }

  it("a key belongs to one person at one server: another's proof or token is useless without it", async () => {
    const of = [
      await proof(alice, "evil"),
      await proof(alice, "honest"),
      await proof(bob, "honest"),
      await proof(alice, "other"),
    ];
    expect(new Set(of.map(({ thumbprint }) => thumbprint)).size).toBe(4);
    expect(of.every(({ jwk }) => jwk && !("d" in jwk))).toBe(true);
    const atToken = [...host.seen, ...other.seen].filter(({ path }) => path === "/token");
    const keys = await Promise.all(
      atToken.map(({ headers }: Seen) =>
        calculateJwkThumbprint(decodeProtectedHeader(String(headers.dpop)).jwk ?? { kty: "" }),
      ),
    );
    expect(keys.sort()).toEqual(of.map(({ thumbprint }) => thumbprint).sort());
  });

  it("a proof is valid for one request: its method, URL and token, once", async () => {
    const first = await proof(alice, "evil", "/deeper?secret=1", "GET");
    const { headers } = await credential(alice, "evil");
    const token = headers.find(([name]) => name === "authorization")?.[1].replace("DPoP ", "") ?? "";
    expect(first).toMatchObject({
      htm: "GET",
      htu: `${host.mcp}/evil/deeper`,
      ath: createHash("sha256").update(token).digest("base64url"),
      iat: expect.any(Number),
    });
    const second = await proof(alice, "evil", "/deeper?secret=1", "GET");
    expect(second.jti).not.toBe(first.jti);
    // A proof for a token endpoint is valid for no other URL, and contains no access token hash.
    const asked = host.seen.filter(({ path }) => path === "/token").map((one) => String(one.headers.dpop));
    for (const one of asked) {
      expect(decodeJwt(one)).toMatchObject({ htu: `${host.url}/token`, htm: "POST" });
      expect(decodeJwt(one)).not.toHaveProperty("ath");
    }
  });

  it("a server's nonce is never used in a proof for another server, or for another tenant of the same host", async () => {
    expect(await wantsNonce("evil", "evil-nonce")).toEqual({ kind: "retry", reason: "dpop_nonce" });
    expect((await proof(alice, "evil")).nonce).toBe("evil-nonce");
    expect((await proof(alice, "honest")).nonce).toBeUndefined();
    expect((await proof(bob, "honest")).nonce).toBeUndefined();
    expect((await proof(alice, "other")).nonce).toBeUndefined();
    await wantsNonce("honest", "its-own");
    await wantsNonce("evil", "another");
    expect((await proof(bob, "honest")).nonce).toBe("its-own");
  });

  it.each([
    ["endless", "n".repeat(513)],
    ["with a line break", "a\r\nx-evil: 1"],
    ["with a quote", 'a"b'],
    ["with non-ASCII characters", "é"],
    ["empty", ""],
  ])("a nonce %s is not used in a proof", async (_what, nonce) => {
    await wantsNonce("other", "good");
    await wantsNonce("other", nonce);
    expect((await proof(alice, "other")).nonce).toBe("good");
  });

  it("a bearer token, or one of an unknown type, is rejected from a server that requires bound tokens", async () => {
    const carol = "company/carol";
    for (const type of ["Bearer", "N_A", "constructor", "__proto__", "mac"]) {
      other.tokenFields.token_type = type;
      await expect(stack.connect(other.agree, carol, "other"), type).rejects.toThrow(/type|no usable token/);
    }
    other.tokenFields.token_type = "DPoP";
    expect(await stack.upstreamTokens.find(person(carol), stack.route("other"))).toMatchObject({
      kind: "missing",
    });
  });
});
