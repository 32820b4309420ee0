import { mapAtOnce } from "./at-once.ts";
import { withDeadline } from "./deadline.ts";

/** How much is asked, and for how long, ms. */
export interface Pace {
  /** Questions at once. */
  readonly atOnce: number;
  /** For one answer. */
  readonly eachMs: number;
  /** For all of them. */
  readonly allMs: number;
}

/**
 * Asks about each item, at most `atOnce` at a time. What is not answered in time is `late`; it goes on, and is not awaited. When the time
 * for all has passed, the rest is not begun.
 */
export function mapInTime<T, R, L>(
  items: Iterable<T>,
  { atOnce, eachMs, allMs }: Pace,
  ask: (item: T) => Promise<R>,
  late: (item: T) => L,
): Promise<(R | L)[]> {
  const until = Date.now() + allMs;
  return mapAtOnce<T, R | L>(items, atOnce, async (item) => {
    const left = until - Date.now();
    return left > 0 ? withDeadline(ask(item), Math.min(eachMs, left), () => late(item)) : late(item);
  });
}

/** For a page about many servers: one that does not answer delays it by seconds, and many do not delay it for longer. */
export const pagePace: Pace = { atOnce: 16, eachMs: 3_000, allMs: 5_000 };
