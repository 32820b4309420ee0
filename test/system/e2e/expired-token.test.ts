import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { pingThroughEnvoy } from "../../support/ping-through-envoy.ts";

/** Lifetime of external tokens in this test, seconds. */
const ttl = 10;
let stack: E2e;
beforeAll(async () => {
  stack = await startE2e({ config: (config) => ({ ...config, external_tokens: { ttl, leeway: 0 } }) });
});
afterAll(() => stack?.close());

it("an expired token is challenged, and the SDK refreshes it without the user", async () => {
  const call = (token: string) => pingThroughEnvoy(stack, stack.urls.open, token);
  const client = await stack.client("alice", stack.urls.open);
  const session = await client.connect();
  const first = client.tokens()?.access_token ?? "";
  expect((await call(first)).status).toBe(200);
  await expect.poll(async () => (await call(first)).status, { timeout: 60_000, interval: 100 }).toBe(401);
  expect((decodeJwt(first).exp ?? 0) * 1000).toBeLessThanOrEqual(Date.now());
  expect((await call(first)).header("www-authenticate")).toContain('error="invalid_token"');
  await session.callTool({ name: "greet", arguments: { name: "again" } });
  expect(client.tokens()?.access_token).not.toBe(first);
  expect(client.authorizations()).toBe(1);
});
