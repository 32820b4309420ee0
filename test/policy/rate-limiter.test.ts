import { describe, expect, it } from "vitest";
import { createRateLimiter } from "../../src/policy/rate-limiter.ts";
import type { SharedLimits } from "../../src/workers/worker.ts";
import { routeWith } from "./route-with.ts";

const { route } = routeWith(
  "policy: {allow: {and: [{accept: true}]}}\nrate_limit: {requests_per_minute: 3, tool_calls_per_minute: 2}",
);
const other = { ...route, id: "other" };
const free = { id: "free" };
const second = 1000;

describe("rate limits per user and route", () => {
  it("allows a minute's allowance at once, then says when to retry", () => {
    const limiter = createRateLimiter();
    const ask = (now: number) => limiter.takeRequest({ userId: "ann", route, now });
    expect([ask(0), ask(0), ask(0)]).toEqual([undefined, undefined, undefined]);
    expect(ask(0)).toEqual({ limit: "requests", retryAfterSeconds: 20 });
    expect(ask(15 * second)).toEqual({ limit: "requests", retryAfterSeconds: 5 });
    expect(ask(20 * second)).toBeUndefined();
    expect(ask(20 * second)).toEqual({ limit: "requests", retryAfterSeconds: 20 });
  });

  it("a client that waits for Retry-After is allowed", () => {
    const limiter = createRateLimiter();
    let now = 12_345;
    for (let calls = 0; calls < 50; calls++) {
      const reached = limiter.takeRequest({ userId: "ann", route, now });
      if (!reached) continue;
      now += reached.retryAfterSeconds * second;
      expect(limiter.takeRequest({ userId: "ann", route, now })).toBeUndefined();
    }
  });

  it("does not mix users, routes, requests and tool calls", () => {
    const limiter = createRateLimiter();
    for (let calls = 0; calls < 4; calls++) limiter.takeRequest({ userId: "ann", route, now: 0 });
    expect(limiter.takeRequest({ userId: "ann", route, now: 0 })).toBeDefined();
    expect(limiter.takeRequest({ userId: "bob", route, now: 0 })).toBeUndefined();
    expect(limiter.takeRequest({ userId: "ann", route: other, now: 0 })).toBeUndefined();
    expect(limiter.takeToolCalls({ userId: "ann", route, now: 0, count: 2 })).toBeUndefined();
    expect(limiter.takeToolCalls({ userId: "ann", route, now: 0, count: 1 })).toEqual({
      limit: "tool_calls",
      retryAfterSeconds: 30,
    });
  });

  it("takes all calls of a batch, or none", () => {
    const limiter = createRateLimiter();
    const take = (count: number) => limiter.takeToolCalls({ userId: "ann", route, now: 0, count });
    expect(take(3)).toEqual({ limit: "tool_calls", retryAfterSeconds: 30 });
    expect(take(2)).toBeUndefined();
    expect(take(2)).toEqual({ limit: "tool_calls", retryAfterSeconds: 60 });
    expect(take(0)).toBeUndefined();
  });

  it("does not limit without a configured limit", () => {
    const limiter = createRateLimiter();
    for (let calls = 0; calls < 1000; calls++) {
      expect(limiter.takeRequest({ userId: "ann", route: free, now: 0 })).toBeUndefined();
    }
  });

  it("a clock that steps back adds no allowance", () => {
    const limiter = createRateLimiter();
    const ask = (now: number) => limiter.takeRequest({ userId: "ann", route, now });
    for (let calls = 0; calls < 3; calls++) ask(60 * second);
    expect(ask(0)).toBeDefined();
    expect(ask(60 * second)).toBeDefined();
  });

  it("a lowered limit applies at once", () => {
    const limiter = createRateLimiter();
    limiter.takeRequest({ userId: "ann", route, now: 0 });
    const lowered = { id: route.id, rateLimit: { requestsPerMinute: 1 } };
    expect(limiter.takeRequest({ userId: "ann", route: lowered, now: 0 })).toBeUndefined();
    expect(limiter.takeRequest({ userId: "ann", route: lowered, now: 0 })).toBeDefined();
  });

  it("keeps at most the maximum number of buckets", () => {
    const limiter = createRateLimiter({ maxBuckets: 2 });
    const drain = (userId: string) => {
      for (let calls = 0; calls < 3; calls++) limiter.takeRequest({ userId, route, now: 0 });
    };
    drain("ann");
    drain("bob");
    drain("cam");
    expect(limiter.takeRequest({ userId: "cam", route, now: 0 })).toBeDefined();
    expect(limiter.takeRequest({ userId: "ann", route, now: 0 })).toBeUndefined();
  });
});

describe("rate limits that several workers share", () => {
  /** Limiters whose workers hear of each other immediately after they publish. */
  function workers(count: number) {
    const listeners: Parameters<SharedLimits["onTaken"]>[0][] = [];
    let published = 0;
    const limiters = Array.from({ length: count }, (_, self) =>
      createRateLimiter({
        shared: {
          others: count - 1,
          onTaken(listener) {
            listeners[self] = listener;
          },
          publish(taken) {
            published += 1;
            for (const [other, listener] of listeners.entries()) if (other !== self) listener(taken);
          },
        },
      }),
    );
    return { limiters, published: () => published };
  }

  it("what one worker allows counts at the others", async () => {
    const { limiters, published } = workers(2);
    const [first, second] = limiters;
    const asked = { userId: "ann", route, now: Date.now() };
    expect(first?.takeRequest(asked)).toBeUndefined();
    expect(first?.takeRequest(asked)).toBeUndefined();
    await expect.poll(published).toBe(1);
    expect(second?.takeRequest(asked)).toBeUndefined();
    expect(second?.takeRequest(asked)).toMatchObject({ limit: "requests" });
    await expect.poll(published).toBe(2);
    expect(first?.takeRequest(asked)).toMatchObject({ limit: "requests" });
  });

  it("what several workers allow at the same moment counts against the user's next allowances", async () => {
    const { limiters, published } = workers(4);
    const asked = { userId: "ann", route, now: Date.now() };
    for (const limiter of limiters) for (let times = 0; times < 3; times++) limiter.takeRequest(asked);
    await expect.poll(published).toBe(4);
    const [first] = limiters;
    expect(first?.takeRequest({ ...asked, now: asked.now + 170 * second })).toBeDefined();
    expect(first?.takeRequest({ ...asked, now: asked.now + 205 * second })).toBeUndefined();
  });

  it("routes without a limit publish nothing", async () => {
    const { limiters, published } = workers(2);
    limiters[0]?.takeRequest({ userId: "ann", route: free, now: Date.now() });
    limiters[0]?.takeRequest({ userId: "ann", route, now: Date.now() });
    await expect.poll(published).toBe(1);
  });
});
