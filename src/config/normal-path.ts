/**
 * The one form of a path that documents, audiences, policy and checks all use (RFC 3986 section 6.2.2): unreserved characters are
 * not percent-encoded, other escapes are in upper case, slashes do not repeat.
 *
 * @param path one that `pathFault` finds nothing wrong with.
 */
export function normalPath(path: string): string {
  const merged = path.includes("//") ? path.replace(/\/{2,}/g, "/") : path;
  if (!merged.includes("%")) return merged;
  return merged.replace(/%[0-9a-f]{2}/gi, (encoded) => {
    const character = String.fromCharCode(Number.parseInt(encoded.slice(1), 16));
    return /[A-Za-z0-9\-._~]/.test(character) ? character : encoded.toUpperCase();
  });
}
