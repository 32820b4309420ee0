import type { Change } from "../../src/store/notifications/notifications.ts";
import type { Store } from "../../src/store/store.ts";

/** Waits for changes selected by `of`, because notifications of earlier writes may still arrive. */
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
