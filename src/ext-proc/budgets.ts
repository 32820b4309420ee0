/** What all answers together, and those of one route, may hold of this process's memory while they wait for their rest, bytes. */
const maxBytes = 96 * 1024 * 1024;
const maxRouteBytes = 32 * 1024 * 1024;
/** A list, or an event, has so long to arrive as a whole, ms. */
const arriveMs = 60_000;

/** What one answer holds. */
export interface HeldBytes {
  /**
   * @param bytes what it holds now
   * @param passedOn something has gone out: what is held is the beginning of something else, with its time before it
   * @returns false where there is no room for what came on top
   */
  set(bytes: number, passedOn: boolean): boolean;
  /** The answer has ended. */
  release(): void;
}

/**
 * Accounts for the memory of answers that are held back, across all of them.
 *
 * @returns for a new answer of a route; `onTimeout` is called when what it holds has not become whole in time.
 */
export function heldBytes(): (routeId: string, onTimeout: () => void) => HeldBytes {
  let total = 0;
  const ofRoutes = new Map<string, number>();
  return (routeId, onTimeout) => {
    let held = 0;
    let timer: NodeJS.Timeout | undefined;
    function account(bytes: number): void {
      total += bytes - held;
      const ofRoute = (ofRoutes.get(routeId) ?? 0) + bytes - held;
      if (ofRoute === 0) ofRoutes.delete(routeId);
      else ofRoutes.set(routeId, ofRoute);
      held = bytes;
    }
    function stop(): void {
      clearTimeout(timer);
      timer = undefined;
    }
    return {
      set(bytes, passedOn) {
        const more = bytes > held;
        account(bytes);
        if (bytes === 0 || passedOn) stop();
        if (bytes > 0) timer ??= setTimeout(onTimeout, arriveMs);
        return !more || (total <= maxBytes && (ofRoutes.get(routeId) ?? 0) <= maxRouteBytes);
      },
      release() {
        account(0);
        stop();
      },
    };
  };
}

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
