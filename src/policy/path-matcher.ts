import { normalPath, upstreamPath } from "../config/paths.ts";
import type { PolicyMatcher, Route } from "../model/route.ts";
import { compileMatcher } from "./matchers.ts";

/** More layers than any server decodes. */
const mostLayers = 5;

/**
 * How the most forgiving server could read a path: decoded as often as possible, backslashes as slashes, `;parameters` cut off
 * each segment, dots and blanks at its end too, dot segments resolved, slashes merged. A slash at the end stays.
 */
export function loosePath(path: string): string {
  if (/^[A-Za-z0-9/_~-]*$/.test(path) && !path.includes("//")) return path;
  const decoded = decodedFully(path);
  // Behind these it is no path to some.
  const end = decoded.search(/[?#\p{Cc}]/u);
  const segments: string[] = [];
  let open = false;
  for (const written of (end < 0 ? decoded : decoded.slice(0, end)).replaceAll("\\", "/").split("/")) {
    const cut = written.split(";", 1)[0] ?? "";
    const segment = cut === ".." ? cut : withoutEnd(cut);
    open = segment === "" || segment === "..";
    if (segment === "..") segments.pop();
    else if (segment !== "") segments.push(segment);
  }
  const joined = `/${segments.join("/")}`;
  return open && joined !== "/" ? `${joined}/` : joined;
}

/** Without dots and blanks at its end. By hand: a pattern that is tried at every dot takes quadratic time. */
function withoutEnd(segment: string): string {
  let end = segment.length;
  while (end > 0 && /[.\s]/.test(segment[end - 1] ?? "")) end -= 1;
  return segment.slice(0, end);
}

/** Percent-decoded until nothing changes, in compatibility form: a fullwidth letter is a letter. */
export function decodedFully(text: string): string {
  let decoded = text;
  for (let layer = 0; layer < mostLayers && decoded.includes("%"); layer += 1) {
    const next = decoded.replace(/(?:%[0-9a-f]{2})+/gi, (run) =>
      Buffer.from(run.replaceAll("%", ""), "hex").toString("utf8"),
    );
    if (next === decoded) break;
    decoded = next;
  }
  return decoded.normalize("NFKC");
}

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
