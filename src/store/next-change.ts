import type { Change, Notifications } from "./store.ts";

/**
 * Listens from now on for the next change that `concerns` the caller, or for that everything may have changed; `heard` resolves
 * then, or after `waitMs`: a listener may be down, and a replica that was to bring the change may have died.
 */
export function nextChange(
  notifications: Pick<Notifications, "subscribe">,
  concerns: (change: Change) => boolean,
  waitMs: number,
): { readonly heard: Promise<void>; stop(): void } {
  const { promise: heard, resolve } = Promise.withResolvers<void>();
  const unsubscribe = notifications.subscribe((change) => {
    if (change.table === "everything" || concerns(change)) resolve();
  });
  const timer = setTimeout(resolve, waitMs);
  timer.unref();
  return {
    heard,
    stop() {
      clearTimeout(timer);
      unsubscribe();
    },
  };
}
