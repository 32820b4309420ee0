import type { LiveConfig } from "../config/live-config.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Store } from "../store/store.ts";
import type { AdminRole } from "./access.ts";
import { type RouteView, routeView, unreadableView } from "./stored-route-changes.ts";

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
  const { routes: stored, unreadable } = await store.storedRoutes.listAll();
  const ids = new Set(stored.map(({ id }) => id));
  const { read } = live.tryStoredRoutes(stored);
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
    ...unreadable.map((one) => unreadableView(role, one)),
  ];
  return role === "admin" ? views : views.filter(({ enabled }) => enabled === true);
}
