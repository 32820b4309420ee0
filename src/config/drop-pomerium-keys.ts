import { pomeriumKeys } from "./pomerium-keys.ts";
import type { Reporter } from "./reporter.ts";

/** Reports and removes the keys of `entry` (at `path`) that Pomerium documents and we do not have. */
export function dropPomeriumKeys(
  level: "global" | "route",
  entry: Readonly<Record<string, unknown>>,
  path: readonly (string | number)[],
  reporter: Reporter,
): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entry)) {
    const known = Object.hasOwn(pomeriumKeys[level], key) ? pomeriumKeys[level][key] : undefined;
    // A switch that is off restricts and opens nothing.
    const off = value === false || value === null;
    if (known === undefined) kept[key] = value;
    else if (known.verdict === "warn" || off) {
      reporter.warn([...path, key], `${key} has no effect: ${known.why}`, known.fix, "key");
    } else reporter.error([...path, key], `${key} is not supported: ${known.why}`, known.fix, "key");
  }
  return kept;
}
