import { readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { startChecks } from "../ext-authz/start-checks.ts";

const page = readFileSync(join(import.meta.dirname, "../../docs/security.md"), "utf8");
const [, example = ""] = /^```ts\n(.*?)^```$/ms.exec(page) ?? [];
const route = /const route = "(.*)"/.exec(example)?.[1] ?? "";
/** Here, so that it finds its library. */
const file = join(import.meta.dirname, `identity-${process.pid}.generated.ts`);
const Caller = (module: { caller?: unknown }) =>
  module.caller as (headers: Record<string, string | undefined>) => Promise<Record<string, unknown>>;

let checks: Awaited<ReturnType<typeof startChecks>>;
let caller: ReturnType<typeof Caller>;
beforeAll(async () => {
  checks = await startChecks(`
issuer: https://auth.test
sign_in: {providers: [{issuer: https://idp.test, client_id: x}]}
policy: {allow: {or: [{accept: true}]}}
routes:
  - {id: tickets, from: "${route}", to: http://127.0.0.1:1, mcp: {server: {upstream_auth: none}}}
  - {id: other, from: "${route}/other", to: http://127.0.0.1:2, mcp: {server: {upstream_auth: none}}}
`);
  vi.stubGlobal("fetch", async (url: string) => {
    expect(String(url)).toBe(`${route}/.well-known/pomerium/jwks.json`);
    return Response.json(checks.keys.jwks("assertion"));
  });
  writeFileSync(file, example);
  caller = Caller(await import(pathToFileURL(file).href));
});
afterAll(async () => {
  vi.unstubAllGlobals();
  await rm(file, { force: true });
  await checks?.close();
});

/** The headers that the upstream of this route receives. */
async function received(resource: string): Promise<Record<string, string>> {
  const authorization = `Bearer ${await checks.token({ aud: resource })}`;
  return (await checks.ask({ url: resource, headers: { authorization } })).set;
}

it("the example in docs/security.md accepts what the gateway sends to this route, with the claims of the table", async () => {
  const headers = await received(route);
  const claims = await caller(headers);
  expect(claims).toMatchObject({
    iss: new URL(route).host,
    aud: route,
    sub: "idp/alice",
    email: "alice@example.com",
    groups: ["staff"],
  });
  expect(Number(claims.exp) - Number(claims.iat)).toBe(300);
  expect(claims).not.toHaveProperty("jti");
  expect(headers["x-pomerium-assertion"]).toBe(headers["x-pomerium-jwt-assertion"]);
});

it("it rejects the assertion of another route of the host, and a request without one", async () => {
  await expect(caller(await received(`${route}/other`))).rejects.toThrow("aud");
  await expect(caller({})).rejects.toThrow();
});
