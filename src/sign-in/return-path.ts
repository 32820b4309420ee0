/**
 * Checks that `value` is a path (with query) on this very host, so that a sign-in never ends on a stranger's page: one leading
 * slash, no backslash, no control characters, nothing a browser would read as another origin.
 */
export function returnPath(value: string | null | undefined): string | undefined {
  if (!value || value.length > 4096 || !value.startsWith("/") || value.startsWith("//")) return undefined;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: browsers drop tabs and newlines inside URLs
  if (/[\\\u0000-\u0020\u007f]/.test(value)) return undefined;
  const here = "https://this.invalid";
  const url = URL.parse(value, here);
  if (url?.origin !== here || url.username || url.password || url.pathname.startsWith("//")) return undefined;
  return url.pathname + url.search;
}
