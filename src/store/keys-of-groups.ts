/** Which keys of a cache belong to whom: forgetting somebody takes as long as they have entries, however many others there are. */
export interface KeysOfGroups {
  /** To be called once the cache holds the key. */
  add(group: string, key: string): void;
  /** To be called when the cache disposes of the key, for whatever reason. */
  remove(group: string, key: string): void;
  /** A copy: the cache may dispose of them in the meantime. */
  of(group: string): readonly string[];
}

/** An index beside a cache. */
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
