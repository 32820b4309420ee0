import { parse, stringify } from "yaml";

/** What the samples for ingresses without a response path remove from an MCP server's responses, beyond what `envoy-config` removes. */
export const removedWithoutResponsePath = ["www-authenticate", "set-cookie", "location", "content-location"];

/**
 * An Envoy bootstrap without the response filter, as Contour and Emissary configure Envoy.
 *
 * @param bootstrap as `envoy-config` prints it
 * @param remove response headers that the routes of MCP servers remove
 */
export function withoutResponsePath(
  bootstrap: string,
  remove: readonly string[] = removedWithoutResponsePath,
): string {
  const config: unknown = parse(bootstrap);
  let filters = 0;
  let routes = 0;
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) for (const one of node) visit(one);
    if (Array.isArray(node) || typeof node !== "object" || node === null) return;
    if ("http_filters" in node && Array.isArray(node.http_filters)) {
      const kept = node.http_filters.filter(({ name }) => name !== "envoy_mcp_auth.challenge");
      filters += node.http_filters.length - kept.length;
      node.http_filters = kept;
    }
    if ("response_headers_to_remove" in node && Array.isArray(node.response_headers_to_remove)) {
      routes += 1;
      node.response_headers_to_remove.push(...remove);
    }
    for (const value of Object.values(node)) visit(value);
  };
  visit(config);
  if (filters === 0 || routes === 0) throw new Error("the bootstrap has no response filter or no MCP route");
  return stringify(config);
}
