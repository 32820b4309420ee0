/**
 * Says what is wrong with a path that proxies and servers might read differently; undefined: nothing. Envoy normalises before
 * it asks, so that whatever is left here is an attempt, or an Envoy configured otherwise.
 */
export function pathFault(path: string): string | undefined {
  if (!path.startsWith("/")) return "the request target is not a path";
  if (/[^!-~]/.test(path)) return "the path has spaces, control or non-ASCII characters";
  if (/["<>\\#]/.test(path)) return "the path has characters that must be percent-encoded";
  if (!path.includes("%")) return dotSegment(path);
  if (/%(?![0-9a-f]{2})/i.test(path)) return "the path has a broken percent-encoding";
  if (/%(2f|5c)/i.test(path)) return "the path has an encoded slash";
  if (/%([01][0-9a-f]|7f)/i.test(path)) return "the path has an encoded control character";
  return dotSegment(path.replace(/%2e/gi, "."));
}

/** `..;` too: some servers cut path parameters off before they resolve dots. */
function dotSegment(path: string): string | undefined {
  return /\/\.{1,2}(?=[/;]|$)/.test(path) ? "the path has dot segments" : undefined;
}
