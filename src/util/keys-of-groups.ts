/** Index of a cache's keys by group: evicting a group takes time proportional to its entries, not to the cache. */
export interface KeysOfGroups {
  /** Call after adding the key to the cache. */
  add(group: string, key: string): void;
  /** Call when the cache disposes of the key, for any reason. */
  remove(group: string, key: string): void;
  /** Returns a copy: the cache may dispose of keys in the meantime. */
  of(group: string): readonly string[];
}

/** Creates an empty index. */
export function keysOfGroups(): KeysOfGroups {
  const groups = new Map<string, Set<string>>();
  return {
    add(group, key) {
      const keys = groups.get(group) ?? new Set();
      groups.set(group, keys.add(key));
    },
    remove(group, key) {
      const keys = groups.get(group);
      keys?.delete(key);
      if (keys?.size === 0) groups.delete(group);
    },
    of: (group) => [...(groups.get(group) ?? [])],
  };
}
