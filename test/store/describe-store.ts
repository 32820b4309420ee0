import { afterAll, beforeAll, describe } from "vitest";
import type { Store } from "../../src/store/store.ts";
import { type Backend, backends } from "./backends.ts";

/** One suite for both databases, each with its own empty store. */
export function describeStore(title: string, suite: (store: () => Store) => void): void {
  describe.each(["postgres", "embedded"] as const)(`${title}, on %s`, (kind) => {
    let backend: Backend;
    let store: Store;
    beforeAll(async () => {
      backend = await backends[kind]();
      store = await backend.open();
    });
    afterAll(async () => {
      await store?.close();
      await backend?.close();
    });
    suite(() => store);
  });
}
