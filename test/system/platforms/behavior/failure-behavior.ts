import { beforeAll, describe, expect, it } from "vitest";
import type { E2e } from "../../../support/e2e.ts";
import { pingThroughEnvoy } from "../../../support/ping-through-envoy.ts";
import type { TcpProxy } from "../../../support/tcp-proxy.ts";

/** A stack, and the connection between its sidecar and the database. */
export interface FragileStack {
  readonly stack: E2e;
  readonly wire: TcpProxy;
}

/** Denies every call, with 503, while something that a check needs is away; recovers by itself. */
export function failureBehavior(running: () => FragileStack): void {
  describe("when something is down", () => {
    let stack: E2e;
    let wire: TcpProxy;
    beforeAll(() => {
      ({ stack, wire } = running());
    });

    const call = (token: string) => pingThroughEnvoy(stack, stack.urls.open, token);
    const ready = () =>
      expect
        .poll(async () => (await fetch(`${stack.adminUrl}/readyz`)).status, { timeout: 60_000 })
        .toBe(200);

    it("answers 503 with Retry-After while the store is down, allows no calls, and recovers by itself", async () => {
      const token = await stack.externalToken("bob", stack.urls.open);
      const arrived = stack.open.requests.length;
      expect((await call(token)).status).toBe(200);
      await wire.cut();
      // Cached state may serve until the notification listener counts as stalled; after that, every call fails.
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
      await ready();
      const fresh = await stack.externalToken("bob", stack.urls.open);
      await expect.poll(async () => (await call(fresh)).status, { timeout: 60_000 }).toBe(200);
    });

    it("never hangs past the deadline when the store does not answer", async () => {
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
      await ready();
    });

    it("denies everything while the gateway hangs, and serves again when it continues", async () => {
      const token = await stack.externalToken("bob", stack.urls.open);
      expect((await call(token)).status).toBe(200);
      const reached = stack.open.requests.length;
      stack.sidecar().kill("SIGSTOP");
      try {
        expect((await call(token)).status).toBe(503);
      } finally {
        stack.sidecar().kill("SIGCONT");
      }
      expect(stack.open.requests.length).toBe(reached);
      await ready();
      await expect.poll(async () => (await call(token)).status, { timeout: 60_000 }).toBe(200);
    });

    it("denies everything while the gateway is down, and serves again when it is back", async () => {
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
}
