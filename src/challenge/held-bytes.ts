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
