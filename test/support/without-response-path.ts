import { parse, stringify } from "yaml";
import { headerCheckFilter } from "../../src/envoy-config/http-filters.ts";

/** What the samples for ingresses without a response path remove from an MCP server's responses, beyond what `envoy-config` removes. */
export const removedWithoutResponsePath = ["www-authenticate", "set-cookie", "location", "content-location"];

const dropped = ["envoy_mcp_auth.challenge", headerCheckFilter];

/**
 * An Envoy bootstrap without the response filter, and with one check per request, after which Envoy selects the route again: as Contour
 * and Emissary configure Envoy.
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
      const kept = node.http_filters.filter(({ name }) => !dropped.includes(name));
      filters += node.http_filters.length - kept.length;
      node.http_filters = kept;
      for (const { name, typed_config } of kept)
        if (name === "envoy.filters.http.ext_authz") typed_config.clear_route_cache = true;
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
