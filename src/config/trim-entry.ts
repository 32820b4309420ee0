import type { Reporter } from "./reporter.ts";
import type { ConfigPath } from "./yaml-source.ts";

/** Texts that are used as written: policies compare them, clients get them. */
const asWritten: ReadonlySet<string> = new Set(["policy", "well_known"]);
/** Mappings whose keys are names of headers. */
const byHeader: ReadonlySet<string> = new Set(["headers", "set"]);

/**
 * An entry of `routes` without surrounding white space in its texts, and without the blank entries of its lists. The inside of a text
 * stays as it is.
 *
 * @param path the entry's
 * @param reporter reports later problems where the values are written
 */
export function trimEntry(
  entry: Readonly<Record<string, unknown>>,
  path: ConfigPath = [],
  reporter?: Pick<Reporter, "moved">,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(entry).map(([key, value]) => [
      key,
      asWritten.has(key) ? value : trimmed(value, [...path, key], reporter),
    ]),
  );
}

function trimmed(value: unknown, path: ConfigPath, reporter: Pick<Reporter, "moved"> | undefined): unknown {
  if (typeof value === "string") return value.trim();
  if (Array.isArray(value)) {
    const kept = value
      .map((item, index) => ({ item: trimmed(item, [...path, index], reporter), index }))
      .filter(({ item }) => item !== "");
    for (const [now, { index }] of kept.entries())
      if (now !== index) reporter?.moved([...path, index], [...path, now]);
    return kept.map(({ item }) => item);
  }
  if (typeof value !== "object" || value === null) return value;
  const keysOfHeaders = byHeader.has(String(path.at(-1)));
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const name = key.trim();
      // Two spellings of one name stay two keys, which the schema rejects.
      const fits = keysOfHeaders && (name === key || !(name in value));
      return [fits ? name : key, trimmed(inner, [...path, key], reporter)];
    }),
  );
}
