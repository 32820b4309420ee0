import { isJsonObject, type JsonObject } from "./json-object.ts";

/** RFC 7396: what `patch` names is set, merged where both are objects, removed where it is null; all else stays. */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  const merged = new Map(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else if (isJsonObject(value)) {
      const old = merged.get(key);
      merged.set(key, mergePatch(isJsonObject(old) ? old : {}, value));
    } else merged.set(key, value);
  }
  // fromEntries defines `__proto__` as a key like any other.
  return Object.fromEntries(merged);
}
