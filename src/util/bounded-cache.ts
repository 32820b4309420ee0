import { LRUCache } from "lru-cache";

/**
 * A cache of at most so many entries, of which the least recently used gives way (`evict`). It costs what it holds: with `max`, LRUCache
 * has room for all of them from the beginning (3 ms for 20,000). In return it reads a tenth and writes a third slower, which matters for
 * what every check looks up only: those have `max`.
 *
 * @param entries at least 1
 * @param options.ttl ms
 */
export function boundedCache<K extends {}, V extends {}>(
  entries: number,
  options: Pick<LRUCache.Options<K, V, unknown>, "ttl" | "dispose"> = {},
): LRUCache<K, V> {
  return new LRUCache<K, V>({ ...options, maxSize: entries, sizeCalculation: () => 1 });
}
