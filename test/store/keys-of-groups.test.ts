import { LRUCache } from "lru-cache";
import { expect, it } from "vitest";
import { keysOfGroups } from "../../src/util/keys-of-groups.ts";

it("contains the keys of a group that are still cached, and no groups without keys", () => {
  const names = keysOfGroups();
  const cache = new LRUCache<string, string>({ max: 3, dispose: (group, key) => names.remove(group, key) });
  const keep = (key: string, group: string) => {
    cache.set(key, group);
    names.add(group, key);
  };
  keep("1", "alice");
  keep("2", "bob");
  keep("3", "alice");
  expect(names.of("alice")).toEqual(["1", "3"]);
  // Evicts the first key.
  keep("4", "carol");
  expect(names.of("alice")).toEqual(["3"]);
  keep("2", "alice");
  expect([names.of("alice"), names.of("bob")]).toEqual([["3", "2"], []]);
  for (const key of names.of("alice")) cache.delete(key);
  expect([...cache.keys()]).toEqual(["4"]);
  cache.clear();
  expect([names.of("alice"), names.of("carol")]).toEqual([[], []]);
});
