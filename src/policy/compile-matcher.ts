import type { PolicyMatcher } from "../model/route.ts";
import { PolicyError } from "./policy-error.ts";

/** A compiled matcher over the values a criterion found (one, or a list's). `absent` answers for no value at all. */
export interface CompiledMatcher {
  matches(values: readonly string[]): boolean;
  /** Whether "not there" satisfies it: true for `not_in` alone. Counts in deny rules only. */
  readonly absent: boolean;
}

/**
 * Compiles a string matcher. Over a list, `is` wants exactly that one value, `not_in` wants none of the list's in the
 * given ones, all others want at least one that matches.
 *
 * @param fold applied to both sides, for values without case.
 * @throws PolicyError for matchers that make no sense here, or would match everything.
 */
export function compileMatcher(
  matcher: PolicyMatcher,
  fold: (value: string) => string = (value) => value,
): CompiledMatcher {
  switch (matcher.kind) {
    case "is":
    case "has": {
      const wanted = fold(String(matcher.value));
      return matcher.kind === "is"
        ? { matches: (values) => values.length === 1 && fold(values[0] ?? "") === wanted, absent: false }
        : { matches: (values) => values.some((value) => fold(value) === wanted), absent: false };
    }
    case "starts_with":
    case "ends_with":
    case "contains": {
      const part = fold(String(matcher.value));
      if (part === "")
        throw new PolicyError(`${matcher.kind}: "" matches everything; name a part to look for`);
      const has = {
        starts_with: (value: string) => value.startsWith(part),
        ends_with: (value: string) => value.endsWith(part),
        contains: (value: string) => value.includes(part),
      }[matcher.kind];
      return { matches: (values) => values.some((value) => has(fold(value))), absent: false };
    }
    case "in":
    case "not_in": {
      const listed = new Set(matcher.values.map((value) => fold(String(value))));
      return matcher.kind === "in"
        ? { matches: (values) => values.some((value) => listed.has(fold(value))), absent: false }
        : { matches: (values) => !values.some((value) => listed.has(fold(value))), absent: true };
    }
    case "all": {
      if (matcher.matchers.length === 0)
        throw new PolicyError("a matcher without operators matches everything");
      const all = matcher.matchers.map((part) => compileMatcher(part, fold));
      return {
        matches: (values) => all.every((part) => part.matches(values)),
        absent: all.every((part) => part.absent),
      };
    }
    default:
      throw new PolicyError(`the matcher ${matcher.kind} does not apply here; use is, in or starts_with`);
  }
}
