/**
 * An authority as received (`Host`, `:authority`) in the form routes carry it: lower case, `:443` left out. `undefined` for
 * what no client of ours sends: empty, user info, a trailing dot, non-ASCII, a port that is none.
 */
export function normalizeHost(authority: string): string | undefined {
  const match = /^([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?$/.exec(
    authority,
  );
  if (match?.[1] === undefined) return undefined;
  const name = match[1].toLowerCase();
  const port = match[2] === undefined ? 443 : Number(match[2]);
  if (port === 0 || port > 65_535) return undefined;
  return port === 443 ? name : `${name}:${port}`;
}
