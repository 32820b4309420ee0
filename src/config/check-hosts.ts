import type { Route } from "../model/route.ts";
import type { Config } from "./config.ts";
import type { ConfigPath } from "./config-source.ts";
import type { Reporter } from "./reporter.ts";

/**
 * One host is one trust domain: a script of an application can use and plant the cookies of its whole host, on every port
 * (RFC 6265 section 8.5). The issuer's host carries no application; an MCP route's host only where the operator says so. Of two
 * routes that may not share a host, the later one is reported: routes of the database come after those of the file.
 */
export function checkHosts(
  config: Pick<Config, "issuer">,
  routes: readonly { route: Route; path: ConfigPath }[],
  reporter: Pick<Reporter, "error">,
): void {
  const issuer = new URL(config.issuer).hostname;
  const servers = new Map<string, Route>();
  const applications = new Map<string, Route>();
  for (const { route, path } of routes) {
    const host = new URL(route.origin).hostname;
    const at = [...path, "from"];
    if (route.mcp.kind === "client") {
      const server = servers.get(host);
      if (host === issuer) {
        reporter.error(
          at,
          `${host} is the issuer's host: an application there could consent for its users, and use their sessions`,
          "give the application a host of its own, or the issuer",
        );
      } else if (server !== undefined && !route.mcp.sharesHost) {
        reporter.error(
          at,
          `${host} is the host of the MCP route ${server.id}: an application there could connect it for its users`,
          "give the application a host of its own, or accept this with mcp: {client: {shares_host: true}}",
        );
      } else if (!route.mcp.sharesHost) applications.set(host, route);
      continue;
    }
    const application = applications.get(host);
    if (application !== undefined) {
      reporter.error(
        at,
        `${host} is the host of the application ${application.id}, which could connect this MCP route for its users`,
        `give this route another host, or accept this with mcp: {client: {shares_host: true}} on ${application.id}`,
      );
    } else servers.set(host, route);
  }
}
