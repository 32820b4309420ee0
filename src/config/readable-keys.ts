/**
 * The keys of a key set that somebody else publishes (RFC 7517 section 5): an entry that is no key does not cost the others, and a member
 * that is null says nothing of its key.
 *
 * @returns undefined when there is no list of keys
 */
export function readableKeys(keySet: unknown): Record<string, unknown>[] | undefined {
  if (typeof keySet !== "object" || keySet === null || !("keys" in keySet)) return undefined;
  if (!Array.isArray(keySet.keys)) return undefined;
  const keys: unknown[] = keySet.keys;
  return keys.flatMap((key) => {
    if (typeof key !== "object" || key === null || Array.isArray(key)) return [];
    return [Object.fromEntries(Object.entries(key).filter(([, value]) => value !== null))];
  });
}
