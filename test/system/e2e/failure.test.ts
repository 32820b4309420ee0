import { decodeJwt } from "jose";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type E2e, startE2e } from "../../support/e2e.ts";
import { pingThroughEnvoy } from "../../support/ping-through-envoy.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { startTcpProxy, type TcpProxy } from "../../support/tcp-proxy.ts";

/** Seconds; a TE lives no longer here. */
const ttl = 10;
const deadlineMs = 2_000;

describe("when something is down", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let wire: TcpProxy;
  let stack: E2e;

  beforeAll(async () => {
    database = await createTestDatabase();
    const { hostname, port } = new URL(inject("postgresUrl"));
    wire = await startTcpProxy({ host: hostname, port: Number(port) });
    const url = new URL(database.url);
    url.port = String(wire.port);
    stack = await startE2e({
      env: { DATABASE_URL: url.href },
      config: (config) => ({
        ...config,
        check: { deadline: deadlineMs / 1000 },
        external_tokens: { ttl, leeway: 0 },
      }),
    });
  });
  afterAll(async () => {
    await stack?.close();
    await wire?.close();
    await database?.close();
  });

  const call = (token: string) => pingThroughEnvoy(stack, stack.urls.open, token);

  it("an expired token is challenged, and the SDK's refresh brings the next one without the person", async () => {
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

  it("answers 503 with Retry-After while the store is down, lets nobody through, and recovers by itself", async () => {
    const token = await stack.externalToken("bob", stack.urls.open);
    const arrived = stack.open.requests.length;
    expect((await call(token)).status).toBe(200);
    await wire.cut();
    // What the replica heard last may serve until its listener is known to be deaf; from then on nobody passes.
    await expect.poll(async () => (await call(token)).status, { interval: 20, timeout: 60_000 }).toBe(503);
    const reached = stack.open.requests.length;
    expect(reached).toBeGreaterThan(arrived);
    const answers = await Promise.all(Array.from({ length: 20 }, () => call(token)));
    for (const answer of answers) {
      expect(answer.status).toBe(503);
      expect(answer.header("retry-after")).toBeDefined();
      expect(answer.body).not.toMatch(/\bat .*:\d+:\d+/);
    }
    expect(stack.open.requests.length).toBe(reached);
    const health = await fetch(`${stack.adminUrl}/readyz`);
    expect(health.status).toBe(503);

    await wire.restore();
    await expect
      .poll(async () => (await fetch(`${stack.adminUrl}/readyz`)).status, { timeout: 60_000 })
      .toBe(200);
    const fresh = await stack.externalToken("bob", stack.urls.open);
    await expect.poll(async () => (await call(fresh)).status, { timeout: 60_000 }).toBe(200);
  });

  it("never hangs past the deadline when the store swallows every byte", async () => {
    const token = await stack.externalToken("bob", stack.urls.open);
    wire.blackHole();
    try {
      await expect.poll(async () => (await call(token)).status, { timeout: 60_000 }).toBe(503);
      const reached = stack.open.requests.length;
      const answers = await Promise.all(Array.from({ length: 5 }, () => call(token)));
      expect(answers.map(({ status }) => status)).toEqual([503, 503, 503, 503, 503]);
      expect(stack.open.requests.length).toBe(reached);
    } finally {
      await wire.restore();
    }
    await expect
      .poll(async () => (await fetch(`${stack.adminUrl}/readyz`)).status, { timeout: 60_000 })
      .toBe(200);
  });

  it("denies everything while the sidecar itself is gone, and serves again when it is back", async () => {
    const token = await stack.externalToken("bob", stack.urls.open);
    await stack.sidecar().close();
    const reached = stack.open.requests.length;
    expect((await call(token)).status).toBe(503);
    expect(stack.open.requests.length).toBe(reached);
    await stack.restartSidecar();
    const again = await stack.externalToken("bob", stack.urls.open);
    await expect.poll(async () => (await call(again)).status, { timeout: 60_000 }).toBe(200);
  });
});
