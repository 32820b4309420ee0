/** Memory limits for incomplete responses, in total and per route, bytes. */
const maxBytes = 96 * 1024 * 1024;
const maxRouteBytes = 32 * 1024 * 1024;
/** Time for a list or an event to arrive completely, ms. */
const arriveMs = 60_000;

/** The memory held by one response. */
export interface HeldBytes {
  /**
   * @param bytes currently held
   * @param passedOn something was sent: the held bytes start a new item, and the timeout starts again
   * @returns false if the additional bytes exceed a limit
   */
  set(bytes: number, passedOn: boolean): boolean;
  /** Called when the response has ended. */
  release(): void;
}

/**
 * Accounts for the memory of all responses that are held back.
 *
 * @returns a function that registers a response of a route; `onTimeout` is called if a held item is not complete in time.
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

/** The longest wait for a party that has used more than its share, ms. */
const maxWaitMs = 1000;

/** CPU time that one party may use of the single thread that serves all. */
export interface WorkBudget {
  spend(ms: number): void;
  /** How long the party must wait now, ms. */
  wait(): number;
}

/**
 * @param share of all time, from 0 to 1
 * @param burstMs what an idle party may use at once
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
      return left >= 0 ? 0 : Math.min(maxWaitMs, -left / share);
    },
  };
}
