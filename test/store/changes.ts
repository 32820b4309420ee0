import type { Change, Store } from "../../src/store/store.ts";

/** Listens from now on: all changes seen, and the first of them. */
export function changes(store: Store): { seen: Change[]; next: Promise<Change>; stop: () => void } {
  const seen: Change[] = [];
  const { promise, resolve } = Promise.withResolvers<Change>();
  const stop = store.notifications.subscribe((change) => {
    seen.push(change);
    resolve(change);
  });
  return { seen, next: promise, stop };
}
