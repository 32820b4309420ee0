import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";

/** Requires that every call is answered 401 from one second on. On a stalled machine, the start of the call counts. */
export async function rejectedWithinASecond(call: () => Promise<{ readonly status: number }>): Promise<void> {
  for (const since = performance.now(); ; await delay(20)) {
    const askedAt = performance.now();
    if ((await call()).status === 401) return;
    expect(askedAt - since).toBeLessThan(1_000);
  }
}
