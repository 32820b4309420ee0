import type { LiveConfig } from "../config/live-config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { unusableProblems } from "../config/stored-routes.ts";
import type { Store } from "../store/store.ts";
import type { AdminRole } from "./access.ts";
import { type RouteView, routeView, unusableView } from "./stored-route-changes.ts";

export interface RouteViewsDeps {
  readonly routes: CurrentRoutes;
  readonly live: Pick<LiveConfig, "tryStoredRoutes" | "storedProblems" | "withoutCredential">;
  readonly store: { readonly storedRoutes: Pick<Store["storedRoutes"], "listAll"> };
}

/** The routes of the file, then those of the database, as a role may see them: viewers see enabled routes only. */
export async function routeViews(
  { routes, live, store }: RouteViewsDeps,
  role: AdminRole,
): Promise<RouteView[]> {
  const { routes: stored, unreadable, rejected } = await store.storedRoutes.listAll();
  const ids = new Set(stored.map(({ id }) => id));
  const { read } = live.tryStoredRoutes(stored);
  const unusable = unusableProblems({ unreadable, rejected });
  const inFile = routes().config.routes.filter(({ id }) => !ids.has(id));
  const views = [
    ...inFile.map((route) => routeView(role, { route })),
    ...stored.map((one) =>
      routeView(role, {
        route: read.get(one.id),
        stored: one,
        problems: live.storedProblems().get(one.id) ?? live.withoutCredential().get(one.id),
      }),
    ),
    ...[...unreadable, ...rejected].map(({ id }) => unusableView(role, id, unusable.get(id) ?? [])),
  ];
  return role === "admin" ? views : views.filter(({ enabled }) => enabled === true);
}
