import type { Change } from "../../src/store/notifications/notifications.ts";
import type { Store } from "../../src/store/store.ts";

/** Listens from now on for changes that are `of` interest: late news of earlier writes may still be on their way. */
export function changes(
  store: Store,
  of: (change: Change) => boolean = () => true,
): { seen: Change[]; next: Promise<Change>; stop: () => void } {
  const seen: Change[] = [];
  const { promise, resolve } = Promise.withResolvers<Change>();
  const stop = store.notifications.subscribe((change) => {
    if (!of(change)) return;
    seen.push(change);
    resolve(change);
  });
  return { seen, next: promise, stop };
}
