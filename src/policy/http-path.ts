import { normalPath, upstreamPath } from "../config/paths.ts";
import type { PolicyMatcher, Route } from "../model/route.ts";
import { compileMatcher } from "./matchers.ts";

/** More layers of encoding than any server decodes. */
const maxLayers = 5;

/**
 * A path as the most lenient server could read it: decoded repeatedly, backslashes as slashes, each segment without `;parameters`
 * and without trailing dots and blanks, dot segments resolved, slashes merged. A trailing slash stays.
 */
export function loosePath(path: string): string {
  if (/^[A-Za-z0-9/_~-]*$/.test(path) && !path.includes("//")) return path;
  const decoded = decodedFully(path);
  // Some servers end the path at these.
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

/** Without trailing dots and blanks. Not a regular expression: one that is tried at every dot takes quadratic time. */
function withoutEnd(segment: string): string {
  let end = segment.length;
  while (end > 0 && /[.\s]/.test(segment[end - 1] ?? "")) end -= 1;
  return segment.slice(0, end);
}

/** Percent-decoded until nothing changes, then in compatibility form: a fullwidth letter becomes a letter. */
export function decodedFully(text: string): string {
  let decoded = text;
  for (let layer = 0; layer < maxLayers && decoded.includes("%"); layer += 1) {
    const next = decoded.replace(/(?:%[0-9a-f]{2})+/gi, (run) =>
      Buffer.from(run.replaceAll("%", ""), "hex").toString("utf8"),
    );
    if (next === decoded) break;
    decoded = next;
  }
  return decoded.normalize("NFKC");
}

/** A request's path and its route. */
export interface PathFacts {
  /** In normal form, as the client requested it. */
  readonly path: string;
  /** Absent: the path goes to the upstream unchanged. */
  readonly route?: Pick<Route, "prefix" | "upstreamPath">;
}

/**
 * Compiles an `http_path` matcher. Servers differ in which paths they treat as equal: some cut `;parameters`, decode twice, or ignore
 * case and a trailing slash.
 *
 * @param wide set where a match denies: then the client's path, the upstream's path, or the part below `to` has to match in any
 *   reading. Where a match allows, the upstream's path must match in every reading.
 * @throws PolicyError as `compileMatcher`.
 */
export function compilePathMatcher(matcher: PolicyMatcher, wide: boolean): (facts: PathFacts) => boolean {
  if (matcher.kind === "not_in") {
    const listed = compilePathMatcher({ kind: "in", values: matcher.values }, !wide);
    return (facts) => !listed(facts);
  }
  if (matcher.kind === "all") {
    // Validates the whole matcher first.
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

/** The paths that a deny rule may refer to. */
function pathsOf({ path, route }: PathFacts): readonly string[] {
  if (route === undefined) return [path];
  const upstream = upstreamPath(route, path);
  const to = (route.upstreamPath ?? route.prefix).replace(/\/$/, "");
  const below = to !== "" && upstream.startsWith(`${to}/`) ? upstream.slice(to.length) : upstream;
  return [...new Set([path, upstream, below])];
}

function mapValues(matcher: PolicyMatcher, map: (value: string) => string): PolicyMatcher {
  // An empty value would match everything.
  const mapped = <T extends string | number | boolean>(value: T) => map(String(value)) || value;
  if ("values" in matcher) return { kind: matcher.kind, values: matcher.values.map(mapped) };
  return "value" in matcher ? { kind: matcher.kind, value: mapped(matcher.value) } : matcher;
}
