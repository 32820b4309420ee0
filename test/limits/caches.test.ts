import { expect, test } from "vitest";
import type { UpstreamToken } from "../../src/store/store.ts";
import { createConnectionCache } from "../../src/upstream-token/connection-cache.ts";

test("limits.cache_entries: a full cache gives up its oldest entry, and says so", async () => {
  let evicted = 0;
  const cache = createConnectionCache({
    entries: 2,
    onEvict: () => {
      evicted += 1;
    },
    credentialOf: (_token: UpstreamToken) => {
      throw new Error("nobody has a token here");
    },
    store: {
      upstreamTokens: Object.assign(Object.create(null), {
        find: async () => undefined,
        findDemand: async () => undefined,
      }),
      notifications: {
        subscribe: () => () => {},
        healthy: () => true,
      },
    },
  });
  for (const userId of ["a", "b", "c"]) await cache.load({ userId, routeId: "r", upstream: "u" }, userId);
  expect(evicted).toBe(1);
  expect([cache.peek("a"), cache.peek("c")?.name]).toEqual([undefined, "c"]);
  cache.close();
});
