import { normalPath } from "../config/normal-path.ts";
import { upstreamPath } from "../config/upstream-path.ts";
import type { PolicyMatcher, Route } from "../model/route.ts";
import { compileMatcher } from "./compile-matcher.ts";
import { decodedFully, loosePath } from "./loose-path.ts";

/** A request's path, and where it leads. */
export interface PathFacts {
  /** In normal form, as the client asked for it. */
  readonly path: string;
  /** Absent: the path goes to the upstream as it is. */
  readonly route?: Pick<Route, "prefix" | "upstreamPath">;
}

/**
 * Compiles a matcher of `http_path`. Servers differ in what they take for the same path: some cut `;parameters`, decode twice, or
 * ignore case and a slash at the end.
 *
 * @param wide where a match denies: it is enough that the client's path, the upstream's, or what is below `to` matches in any
 *   reading. Where a match allows, the upstream's path must match in each reading.
 * @throws PolicyError as `compileMatcher`.
 */
export function compilePathMatcher(matcher: PolicyMatcher, wide: boolean): (facts: PathFacts) => boolean {
  if (matcher.kind === "not_in") {
    const listed = compilePathMatcher({ kind: "in", values: matcher.values }, !wide);
    return (facts) => !listed(facts);
  }
  if (matcher.kind === "all") {
    // Compiled as a whole first: that refuses what makes no sense.
    compileMatcher(matcher);
    const parts = matcher.matchers.map((part) => compilePathMatcher(part, wide));
    return (facts) => parts.every((matches) => matches(facts));
  }
  const plain = compileMatcher(mapValues(matcher, (value) => folded(normalPath(value))));
  const loose = compileMatcher(mapValues(matcher, (value) => folded(decodedFully(value))));
  function folded(value: string): string {
    return wide ? value.toLowerCase() : value;
  }
  if (!wide) {
    return ({ path, route }) => {
      const upstream = route === undefined ? path : upstreamPath(route, path);
      return plain.matches([upstream]) && loose.matches([loosePath(upstream)]);
    };
  }
  return (facts) =>
    pathsOf(facts).some((one) => {
      const path = one.toLowerCase();
      if (plain.matches([path])) return true;
      const read = loosePath(path);
      if (loose.matches([read])) return true;
      return loose.matches([read.endsWith("/") ? read.slice(0, -1) : `${read}/`]);
    });
}

/** What a rule that denies may have been written for. */
function pathsOf({ path, route }: PathFacts): readonly string[] {
  if (route === undefined) return [path];
  const upstream = upstreamPath(route, path);
  const to = (route.upstreamPath ?? route.prefix).replace(/\/$/, "");
  const below = to !== "" && upstream.startsWith(`${to}/`) ? upstream.slice(to.length) : upstream;
  return [...new Set([path, upstream, below])];
}

function mapValues(matcher: PolicyMatcher, map: (value: string) => string): PolicyMatcher {
  // What has nothing left would match everything.
  const mapped = <T extends string | number | boolean>(value: T) => map(String(value)) || value;
  if ("values" in matcher) return { kind: matcher.kind, values: matcher.values.map(mapped) };
  return "value" in matcher ? { kind: matcher.kind, value: mapped(matcher.value) } : matcher;
}
