import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";

/** From a second after now on every call is answered 401. What a stalled machine answers late counts from when it was asked. */
export async function rejectedWithinASecond(call: () => Promise<{ readonly status: number }>): Promise<void> {
  for (const since = performance.now(); ; await delay(20)) {
    const askedAt = performance.now();
    if ((await call()).status === 401) return;
    expect(askedAt - since).toBeLessThan(1_000);
  }
}
