import { boundedCache } from "../bounded-cache.ts";

const minuteMs = 60_000;
/** Messages are few; some name a host that somebody else chose. */
const maxMessages = 1_000;

/** How many lines of each message may be written. */
export interface LineBudget {
  /** @param count called once at the end of the minute, with how many lines were dropped in it; not when none were */
  take(message: string, count: (dropped: number) => void): boolean;
}

export function lineBudget(perMinute: number): LineBudget {
  const spent = boundedCache<string, { written: number; dropped: number; readonly until: number }>(
    maxMessages,
  );
  return {
    take(message, count) {
      const now = performance.now();
      let entry = spent.get(message);
      if (!entry || entry.until <= now) {
        entry = { written: 0, dropped: 0, until: now + minuteMs };
        spent.set(message, entry);
      }
      if (entry.written < perMinute) {
        entry.written += 1;
        return true;
      }
      entry.dropped += 1;
      const of = entry;
      if (of.dropped === 1) setTimeout(() => count(of.dropped), of.until - now).unref();
      return false;
    },
  };
}
