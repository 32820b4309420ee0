/** Whoever has used more than their share waits at most this long for the next turn, ms. */
const longestWaitMs = 1000;

/** Processor time that one party may take from the one thread that serves everybody. */
export interface WorkBudget {
  spend(ms: number): void;
  /** How long the party has to wait now, ms. */
  wait(): number;
}

/**
 * @param share of all time, from 0 to 1
 * @param burstMs what may be used at once by whoever has used nothing for a while
 * @param now milliseconds
 */
export function workBudget(share: number, burstMs: number, now = () => performance.now()): WorkBudget {
  let left = burstMs;
  let at = now();
  const refill = () => {
    const since = now() - at;
    at += since;
    left = Math.min(burstMs, left + since * share);
  };
  return {
    spend(ms) {
      refill();
      left -= ms;
    },
    wait() {
      refill();
      return left >= 0 ? 0 : Math.min(longestWaitMs, -left / share);
    },
  };
}
