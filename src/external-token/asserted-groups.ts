import type { Config } from "../config/config.ts";

/** Bytes of all group names together, as JSON: the two headers with them stay below what common servers take (16 KiB in all). */
const mostBytes = 3072;
const mostGroups = 100;

/** The groups claims of an identity assertion. */
export interface AssertedGroups {
  readonly groups: readonly string[];
  /** There, and true, only where `groups` lacks some that were to be in it: an upstream must not take it for all of them. */
  readonly groups_overflow?: true;
}

/**
 * Which of a person's groups an identity assertion carries: those the operator chose, in the provider's order, up to a bound that
 * keeps the header small.
 * @param settings absent: all groups, up to 100
 * @param withheld the provider has said that there are groups, and not which
 */
export function assertedGroups(
  groups: readonly string[],
  settings: Config["identityAssertion"] | undefined,
  withheld = false,
): AssertedGroups {
  const chosen = settings?.groups ? groups.filter(matcher(settings.groups)) : groups;
  const carried: string[] = [];
  let bytes = 0;
  for (const group of chosen.slice(0, settings?.maxGroups ?? mostGroups)) {
    bytes += Buffer.byteLength(JSON.stringify(group)) + 1;
    if (bytes > mostBytes) break;
    carried.push(group);
  }
  const complete = carried.length === chosen.length && !withheld;
  return complete ? { groups: carried } : { groups: carried, groups_overflow: true };
}

/** Exact names, or prefixes that end in `*`. */
function matcher(patterns: readonly string[]): (group: string) => boolean {
  const exact = new Set(patterns);
  const prefixes = patterns.flatMap((one) => (one.endsWith("*") ? [one.slice(0, -1)] : []));
  return (group) => exact.has(group) || prefixes.some((prefix) => group.startsWith(prefix));
}
