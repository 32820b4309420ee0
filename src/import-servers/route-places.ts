/** Where the routes are served: below one host (`https://mcp.example.com`), or a host each (`https://{name}.mcp.example.com`). */
export interface RoutePlaces {
  /** The gateway's issuer. */
  readonly issuer: string;
  /** Names that no server may have, because something of the gateway is there. */
  readonly reserved: ReadonlySet<string>;
  /** The `from` of a route. @param id of the route */
  from(id: string): string;
}

/**
 * Reads `--from`.
 * @returns what is wrong with it, as a text, or the places
 */
export function routePlaces(from: string): RoutePlaces | string {
  const hosts = from.includes("{name}");
  const example = URL.parse(from.replace("{name}", "auth"));
  if (example === null || !/^https?:$/.test(example.protocol))
    return `--from ${from} is not a URL; write https://mcp.example.com, or https://{name}.mcp.example.com for a host per server`;
  if (example.search !== "" || example.hash !== "" || example.username !== "")
    return `--from ${from} has a query, a fragment or a user; write only the host, and a path if the host has other routes`;
  if (
    hosts &&
    (!example.hostname.startsWith("auth.") || from.indexOf("{name}") !== from.lastIndexOf("{name}"))
  )
    return `--from ${from}: {name} must be the first part of the host: https://{name}.mcp.example.com`;
  const base = from.replace(/\/+$/, "");
  return {
    issuer: example.origin,
    reserved: new Set(hosts ? ["auth"] : []),
    from: (id) => (hosts ? base.replace("{name}", id) : `${base}/${id}`),
  };
}

/**
 * Ids for names: lower-case letters, digits and single hyphens, so that they fit into host names, and into prefixes of tool names.
 * @param taken ids that are not available; grows by those that are given
 */
export function routeId(name: string, taken: Set<string>): string {
  const plain =
    name
      .replace(/([a-z0-9])([A-Z])/g, "$1-$2")
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .slice(0, 40)
      .replace(/^-+|-+$/g, "") || "server";
  let id = plain;
  for (let number = 2; taken.has(id); number++) id = `${plain}-${number}`;
  taken.add(id);
  return id;
}
