/**
 * Compiles `tools.allow` or `tools.deny`: tool names, case-sensitive, where `*` stands for any run of characters.
 * Linear in the name's length for each pattern, whatever the number of stars.
 */
export function compileToolNames(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes("*")));
  const globs = patterns.filter((pattern) => pattern.includes("*")).map((pattern) => pattern.split("*"));
  return (name) => exact.has(name) || globs.some((parts) => matchesGlob(name, parts));
}

function matchesGlob(name: string, parts: readonly string[]): boolean {
  const head = parts[0] ?? "";
  const tail = parts.at(-1) ?? "";
  if (name.length < head.length + tail.length || !name.startsWith(head) || !name.endsWith(tail)) return false;
  const end = name.length - tail.length;
  let from = head.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, from);
    if (found < 0 || found + part.length > end) return false;
    from = found + part.length;
  }
  return true;
}
