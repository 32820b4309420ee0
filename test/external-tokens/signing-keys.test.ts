import { createLocalJWKSet, jwtVerify } from "jose";
import { afterEach, expect, test } from "vitest";
import { createSigningKeys } from "../../src/external-tokens/signing-keys.ts";
import { startChecks } from "../ext-authz/start-checks.ts";

const yaml = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: a, name: A, from: https://a.test, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
`;
let checks: Awaited<ReturnType<typeof startChecks>>;
afterEach(() => checks.close());

test("published keys verify tokens, and contain no private members", async () => {
  checks = await startChecks(yaml);
  const answer = await checks.ask({
    url: "https://a.test/",
    headers: { authorization: `Bearer ${await checks.token({ aud: "https://a.test" })}` },
  });
  const published = checks.keys.jwks("assertion");
  const { payload, protectedHeader } = await jwtVerify(
    answer.set["x-pomerium-jwt-assertion"] ?? "",
    createLocalJWKSet(published),
    { issuer: "a.test", audience: "a.test" },
  );
  expect(protectedHeader.alg).toBe("ES256");
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(300);
  expect(published.keys.flatMap(Object.keys)).not.toContain("d");
  expect(published.keys).toHaveLength(1);
});

test("every replica has the same keys, and each purpose has its own", async () => {
  checks = await startChecks(yaml);
  const other = await createSigningKeys(checks);
  expect(other.jwks("external_token")).toEqual(checks.keys.jwks("external_token"));
  expect(other.signer("assertion").kid).not.toBe(other.signer("external_token").kid);
  const { kid } = other.signer("assertion");
  expect(checks.keys.verifier("external_token", kid)).toBeUndefined();
  other.close();
});

test("after a rotation, the new key is published at once and signs later, and the old one expires, on every replica", async () => {
  checks = await startChecks(yaml);
  let now = Date.now();
  const other = await createSigningKeys({ ...checks, now: () => now });
  const changed = new Promise<void>((resolve) => other.onChange(resolve));
  const old = other.signer("external_token").kid;
  const kid = await checks.keys.rotate("external_token", 600, 3600);
  await changed;
  expect(other.jwks("external_token").keys.map((key) => key.kid)).toEqual([kid, old]);
  expect(other.signer("external_token").kid).toBe(old);
  expect(other.privateKeys("external_token")[0]?.kid).toBe(old);
  now = Date.now() + 600_000;
  expect(other.signer("external_token").kid).toBe(kid);
  expect(other.privateKeys("external_token")[0]?.kid).toBe(kid);
  expect(other.verifier("external_token", old)).toBeDefined();
  now = Date.now() + 4_200_000;
  expect(other.verifier("external_token", old)).toBeUndefined();
  other.close();
});

test("tokens of an expired key are rejected", async () => {
  checks = await startChecks(yaml);
  const headers = { authorization: `Bearer ${await checks.token({ aud: "https://a.test" })}` };
  const ask = () => checks.ask({ url: "https://a.test/", headers });
  expect((await ask()).status).toBe(0);
  await checks.keys.rotate("external_token", 0, -1);
  expect((await ask()).status).toBe(401);
});
