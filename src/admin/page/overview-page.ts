import { overviewContent } from "../../pages/admin/overview.ts";
import { routeViews } from "../route-views.ts";
import { type AdminPageDeps, type PageRoutes, showSection } from "./page-requests.ts";

/** Replicas, and what does not work. Viewers see only the former: problems name upstreams. */
export function addOverviewPage(pages: PageRoutes, deps: AdminPageDeps): void {
  const { live, store, recentProblems } = deps;
  pages.get("/admin", "viewer", async (request) => {
    const { role } = request.actor;
    const [replicas, views] = await Promise.all([store.replicas.list(), routeViews(deps, role)]);
    const content = overviewContent({
      replicas,
      routes: views.length,
      notInForce:
        role === "admin"
          ? views.filter(({ in_force }) => in_force === false).map(({ id }) => String(id))
          : [],
      fileProblem: role === "admin" ? live.lastProblem() : undefined,
      problems: role === "admin" ? recentProblems.list() : undefined,
      now: new Date(),
    });
    showSection(request, "overview", { title: "Overview", content });
  });
}
