import { createLocalJWKSet, jwtVerify } from "jose";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startChecks } from "../ext-authz/start-checks.ts";

const head = `
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: harmless, from: https://mcp.test/harmless, to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: payroll, from: https://mcp.test/payroll, to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
  - {id: alone, from: https://alone.test, to: http://127.0.0.1:3, mcp: {server: {upstream_auth: none}}}
`;
let checks: Awaited<ReturnType<typeof startChecks>>;
beforeAll(async () => {
  checks = await startChecks(head);
});
afterAll(() => checks?.close());

/** The assertion that this route's upstream receives. */
async function received(resource: string): Promise<string> {
  const authorization = `Bearer ${await checks.token({ aud: resource })}`;
  const answer = await checks.ask({ url: `${resource}/`, headers: { authorization } });
  return answer.set["x-pomerium-jwt-assertion"] ?? "";
}
/** Verifies it with the published keys, like an upstream. */
const accepts = (assertion: string, audience: string) =>
  jwtVerify(assertion, createLocalJWKSet(checks.keys.jwks("assertion")), { audience }).then(
    () => true,
    () => false,
  );

it("an upstream replays its assertion at another route of the host: it is rejected", async () => {
  const assertion = await received("https://mcp.test/harmless");
  expect(await accepts(assertion, "https://mcp.test/harmless")).toBe(true);
  expect(await accepts(assertion, "https://mcp.test/payroll")).toBe(false);
  expect(await accepts(assertion, "mcp.test")).toBe(false);
  expect(await checks.verifyAssertion(assertion, "https://mcp.test/payroll")).toBeUndefined();
});

it("if a host has only one route, its assertion is also valid for the host name, until there is another route", async () => {
  const alone = await received("https://alone.test");
  expect(await accepts(alone, "https://alone.test")).toBe(true);
  expect(await accepts(alone, "alone.test")).toBe(true);
  await checks.reload(
    `${head}  - {id: second, from: https://alone.test/second, to: http://127.0.0.1:4, mcp: {server: {upstream_auth: none}}}\n`,
  );
  const notAlone = await received("https://alone.test");
  expect(await accepts(notAlone, "https://alone.test")).toBe(true);
  expect(await accepts(notAlone, "alone.test")).toBe(false);
});
