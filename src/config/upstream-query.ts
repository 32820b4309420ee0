/** Name and value of a query parameter, as they stand in a URL. */
export type QueryPair = readonly [name: string, value: string];

/** The parameters of a query, with or without its `?`, escapes as they are. */
export function queryPairs(query: string): readonly QueryPair[] {
  return query
    .replace(/^\?/, "")
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair): QueryPair => {
      const equals = pair.indexOf("=");
      return equals < 0 ? [pair, ""] : [pair.slice(0, equals), pair.slice(equals + 1)];
    });
}

/** A parameter's name as servers read it. */
export function decodedName(name: string): string {
  const spaced = name.replaceAll("+", " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

/**
 * The query that an upstream sees: the client's, and the upstream's own (`Route.upstreamQuery`), which no parameter replaces that some
 * server would take for one of them, whatever its spelling: escapes, another case, a semicolon before it, the brackets of a list.
 */
export function upstreamQuery(own: readonly QueryPair[], query: string): string {
  const taken = new Set(own.map(([name]) => plainName(name)));
  const isOwn = ([name, value]: QueryPair) =>
    `${name}=${value}`.split(/;|%3b/i).some((part) => taken.has(plainName(part.split("=")[0] ?? "")));
  const kept = query.split("&").filter((pair) => pair !== "" && !queryPairs(pair).some(isOwn));
  return [...kept, ...own.map(([name, value]) => `${name}=${value}`)].join("&");
}

function plainName(name: string): string {
  return decodedName(name).replace(/\[.*$/s, "").trim().toLowerCase();
}
