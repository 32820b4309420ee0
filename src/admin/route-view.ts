import type { Problem } from "../config/problem.ts";
import type { Route } from "../config/route.ts";
import type { StoredRoute } from "../store/store.ts";
import type { AdminRole } from "./admin-role.ts";
import { withoutSecrets } from "./route-settings.ts";

/** A route as the admin API shows it; `admin-schemas.ts` describes it. Never a secret. */
export type RouteView = Readonly<Record<string, unknown>>;

/**
 * Makes the one view of a route. Viewers see where it is and whether it works; neither upstreams nor settings.
 *
 * @param given.route absent where the stored entry cannot be read any more
 */
export function routeView(
  role: AdminRole,
  given: { route?: Route; stored?: StoredRoute; problems?: readonly Problem[] },
): RouteView {
  const { route, stored, problems = [] } = given;
  const isFile = stored === undefined;
  const common = {
    id: stored?.id ?? route?.id,
    source: isFile ? "file" : "database",
    ...(route === undefined
      ? {}
      : {
          name: route.name,
          description: route.description,
          ...(route.logoUrl === undefined ? {} : { logo_url: route.logoUrl }),
          url: route.resource,
          kind: route.mcp.kind,
          ...(route.mcp.kind === "server" ? { auth: route.mcp.auth.type } : {}),
          enabled: route.enabled,
        }),
    in_force: problems.length === 0,
  };
  if (role !== "admin") return common;
  return {
    ...common,
    ...(route === undefined ? {} : { to: route.to }),
    ...(problems.length === 0
      ? {}
      : { problems: problems.map(({ path, message, fix }) => ({ path, message, fix })) }),
    ...(stored === undefined
      ? {}
      : {
          version: stored.version,
          created_at: stored.createdAt.toISOString(),
          updated_at: stored.updatedAt.toISOString(),
          settings: withoutSecrets(stored.entry),
        }),
  };
}
