import { isJsonObject, type JsonObject } from "./route-settings.ts";

/** Characters of `detail.changed`; a longer list ends with how many more there are. */
const maxLength = 2000;

/**
 * The paths of the settings that differ between two entries, sorted and separated by commas: names only, never values. A list or a policy
 * counts as one setting.
 */
export function changedFields(before: JsonObject, after: JsonObject): string {
  const paths = differing(before, after, "").toSorted();
  let text = "";
  for (const [index, path] of paths.entries()) {
    const next = text === "" ? path : `${text},${path}`;
    if (next.length > maxLength) return `${text},+${paths.length - index}`;
    text = next;
  }
  return text;
}

function differing(before: unknown, after: unknown, path: string): string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  const bothAbsentOrObjects = [before, after].every((one) => one === undefined || isJsonObject(one));
  if (!bothAbsentOrObjects || path === "policy") return [path];
  const [old, now] = [isJsonObject(before) ? before : {}, isJsonObject(after) ? after : {}];
  const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])];
  const below = keys.flatMap((key) => differing(old[key], now[key], path === "" ? key : `${path}.${key}`));
  // An empty section was added or removed, or keys only changed their order.
  return below.length === 0 && (before === undefined || after === undefined) ? [path] : below;
}
