import { describe, expect, it } from "vitest";
import { pacedBy, RefreshQueue } from "../../src/upstream-tokens/refresh-queue.ts";

const server = "https://as.example client";
const mayTakeMs = 5_000;

/** Has `count` connections refreshed by a server that takes this long for each. @returns most requests at a time */
async function mostAtOnce(queue: RefreshQueue, count: number, tookMs: number): Promise<number> {
  let [running, most] = [0, 0];
  const waiting: (() => void)[] = [];
  const all = Array.from({ length: count }, (_, number) =>
    queue.run({ server, name: `${number}`, urgent: true }, async () => {
      most = Math.max(most, ++running);
      await new Promise<void>((resolve) => waiting.push(resolve));
      running--;
      queue.record(server, { tookMs, mayTakeMs });
    }),
  );
  const drain = setInterval(() => waiting.shift()?.(), 0);
  await Promise.all(all);
  clearInterval(drain);
  return most;
}

describe("the pace of refreshes at one authorization server", () => {
  it("rises only while its answers take a fraction of the timeout: what is given up may have used its refresh token", async () => {
    expect(await mostAtOnce(new RefreshQueue(), 300, 1_500)).toBe(10);
    expect(await mostAtOnce(new RefreshQueue(), 300, 3_000)).toBe(10);
    const fast = await mostAtOnce(new RefreshQueue(), 300, 50);
    expect(fast).toBeGreaterThan(20);
    expect(fast).toBeLessThanOrEqual(50);
  });

  it("is shared by the workers of a machine", async () => {
    expect(await mostAtOnce(new RefreshQueue({ workers: 4 }), 40, 3_000)).toBe(2);
    expect(await mostAtOnce(new RefreshQueue({ workers: 64 }), 5, 3_000)).toBe(1);
  });

  it("falls for a server that is down or limits the rate, and not for one that rejects a route's client", () => {
    const times = { tookMs: 10, mayTakeMs };
    const unavailable = (reason: string) =>
      pacedBy({ kind: "unavailable", reason, retryAfterSeconds: 60 }, times);
    expect(unavailable("unreachable")).toEqual({ ...times, failure: "unreachable" });
    expect(unavailable("rate_limited")).toEqual({ ...times, failure: "rate_limited", pauseMs: 30_000 });
    for (const reason of ["client_rejected", "endpoint_not_allowed", "key_unusable", "redirect_not_followed"])
      expect(unavailable(reason), reason).toEqual(times);
  });
});
