import { configuredMembersOf } from "../../config/aggregates.ts";
import { redirectUriByHand } from "../../config/callback-urls.ts";
import { type RouteFields, routeContent, routeFormContent } from "../../pages/admin/route.ts";
import { type ListedRoute, routesContent } from "../../pages/admin/routes.ts";
import { doctorReport } from "../../upstream-oauth/doctor-report.ts";
import { AdminError } from "../access.ts";
import { isJsonObject, type JsonObject } from "../route-settings.ts";
import { routeViews } from "../route-views.ts";
import { createStoredRouteChanges, type RouteView } from "../stored-route-changes.ts";
import {
  type AdminPageDeps,
  given,
  goTo,
  link,
  type PageRequest,
  type PageRoutes,
  queryOf,
  showSection,
} from "./page-requests.ts";
import { changeOf, enteredFields, fieldsOf, newRoute } from "./route-form.ts";

const perPage = 50;
const emptyRoute: RouteFields = {
  ...{ id: "", name: "", from: "", to: "", auth: "oauth", settings: "" },
  enabled: true,
};

/** Lists routes, shows one, and changes stored ones by the same code as the admin API. */
export function addRoutePages(pages: PageRoutes, deps: AdminPageDeps): void {
  const { routes, logger, upstreamOAuth } = deps;
  const changes = createStoredRouteChanges(deps);

  async function viewOf({ ctx, actor }: PageRequest): Promise<RouteView> {
    const id = ctx.params.id;
    const found = (await routeViews(deps, actor.role)).find((view) => view.id === id);
    if (found === undefined) throw new AdminError(404, "not_found", `there is no route ${id}`);
    return found;
  }
  const pathOf = (id: string) => `/admin/routes/${encodeURIComponent(id)}`;

  pages.get("/admin/routes", "viewer", async (request) => {
    const query = queryOf(request.ctx);
    const filter = { text: given(query, "q"), state: given(query, "state"), source: given(query, "source") };
    const listed = (await routeViews(deps, request.actor.role)).map(listedRoute).filter(matching(filter));
    const at = Math.max(0, Number(query.get("page")) - 1 || 0) * perPage;
    const pageLink = (page: number) =>
      link("/admin/routes", {
        q: filter.text,
        state: filter.state,
        source: filter.source,
        page: String(page),
      });
    const number = at / perPage + 1;
    const content = routesContent({
      routes: listed.slice(at, at + perPage),
      total: listed.length,
      filter,
      first: at > 0 ? pageLink(1) : undefined,
      next: at + perPage < listed.length ? pageLink(number + 1) : undefined,
      mayChange: request.actor.role === "admin",
    });
    showSection(request, "routes", { title: "Routes", content });
  });

  pages.get("/admin/new-route", "admin", async (request) => showForm(request, emptyRoute));
  pages.post("/admin/new-route", async (request) => {
    const entered = enteredFields(request.form);
    try {
      const id = await changes.create(request.actor, newRoute(entered));
      logger.info({ route: id, actor: request.actor.name }, "a route was created");
      goTo(request, pathOf(id), "created");
    } catch (error) {
      showForm(request, entered, undefined, error);
    }
  });

  pages.get("/admin/routes/:id", "viewer", async (request) => showRoute(request, await viewOf(request)));

  pages.get("/admin/routes/:id/edit", "admin", async (request) => {
    const view = storedView(await viewOf(request));
    showForm(request, fieldsOf(view.settings, view.auth), view);
  });
  pages.post("/admin/routes/:id/edit", async (request) => {
    const view = storedView(await viewOf(request));
    const entered = enteredFields(request.form);
    try {
      // The form may show an older version: what it showed is what was changed.
      const version = Number(request.form.get("version"));
      if (version !== view.version)
        throw new AdminError(
          412,
          "version_conflict",
          `the route has changed since this form was opened: it is now at version ${view.version}`,
        );
      const change = changeOf(view.settings, view.auth, entered);
      await changes.change(request.actor, view.id, change, version);
      logger.info({ route: view.id, actor: request.actor.name }, "a route was changed");
      goTo(request, pathOf(view.id), "changed");
    } catch (error) {
      showForm(request, entered, view, error);
    }
  });
  pages.post("/admin/routes/:id/enabled", async (request) => {
    const id = request.ctx.params.id ?? "";
    const enabled = request.form.get("enabled") === "yes";
    await changes.change(request.actor, id, { enabled }, shownVersion(request));
    logger.info({ route: id, actor: request.actor.name }, "a route was changed");
    goTo(request, pathOf(id), "changed");
  });
  pages.post("/admin/routes/:id/delete", async (request) => {
    const id = request.ctx.params.id ?? "";
    if (request.form.get("confirm") !== "yes")
      throw new AdminError(400, "not_confirmed", "tick the box to delete the route");
    await changes.delete(request.actor, id, shownVersion(request));
    logger.info({ route: id, actor: request.actor.name }, "a route was deleted");
    goTo(request, "/admin/routes", "deleted");
  });
  pages.post("/admin/routes/:id/doctor", async (request) => {
    const view = await viewOf(request);
    const route = routes().byId(String(view.id));
    if (route === undefined) throw new AdminError(409, "not_in_force", "the route is not in force");
    const { config } = routes();
    let report = "";
    await doctorReport(route, {
      discover: upstreamOAuth.discover,
      redirectUri: redirectUriByHand(config, route),
      members: configuredMembersOf(config, route),
      write: (text) => {
        report += text;
      },
    });
    showRoute(request, view, report);
  });

  function showRoute(request: PageRequest, view: RouteView, report?: string): void {
    const { actor } = request;
    const id = String(view.id);
    const content = routeContent({
      ...listedRoute(view),
      description: text(view.description),
      to: Array.isArray(view.to) ? view.to.map(String) : [],
      kind: text(view.kind),
      problems: problemsOf(view.problems),
      version: typeof view.version === "number" ? view.version : undefined,
      createdAt: dateOf(view.created_at),
      updatedAt: dateOf(view.updated_at),
      discovery: isJsonObject(view.discovery) ? discoveredFacts(view.discovery) : [],
      settings: isJsonObject(view.settings) ? fieldsOf(view.settings, "").settings : undefined,
      path: pathOf(id),
      csrf: actor.csrf,
      mayChange: actor.role === "admin",
      report,
      now: new Date(),
    });
    showSection(request, "routes", { title: text(view.name) || id, content });
  }

  function showForm(
    request: PageRequest,
    fields: RouteFields,
    view?: { readonly id: string; readonly version: number; readonly auth: string },
    error?: unknown,
  ): void {
    if (error !== undefined && !(error instanceof AdminError)) throw error;
    const content = routeFormContent({
      fields,
      csrf: request.actor.csrf,
      ...(view === undefined
        ? { action: "/admin/new-route", back: "/admin/routes" }
        : {
            action: `${pathOf(view.id)}/edit`,
            back: pathOf(view.id),
            version: view.version,
            auth: view.auth,
          }),
      problems: error?.problems ?? [],
      remedy: error?.remedy,
    });
    showSection(request, "routes", {
      title: view === undefined ? "New route" : `Change ${view.id}`,
      content,
      status: error?.status,
      problem: error === undefined ? undefined : `Nothing was changed: ${error.message}.`,
    });
  }
}

/** Of the route that the page showed; undefined: it could not be read. */
function shownVersion({ form }: PageRequest): number | undefined {
  const version = given(form, "version");
  return version === undefined ? undefined : Number(version);
}

/** A stored route with its settings. @throws AdminError for a route of the file, or one that cannot be decrypted */
function storedView(view: RouteView): {
  readonly id: string;
  readonly version: number;
  readonly auth: string;
  readonly settings: JsonObject;
} {
  const { id, version, settings, source } = view;
  if (source === "database" && !isJsonObject(settings))
    throw new AdminError(409, "not_in_force", `the entry of ${id} cannot be decrypted: see its problems`);
  if (typeof version !== "number" || !isJsonObject(settings))
    throw new AdminError(
      409,
      "in_routes_file",
      `the route ${id} is defined in the routes file: change it there`,
    );
  return { id: String(id), version, auth: text(view.auth) || "oauth", settings };
}

function listedRoute(view: RouteView): ListedRoute {
  return {
    id: String(view.id),
    name: text(view.name) || String(view.id),
    url: text(view.url),
    source: view.source === "file" ? "file" : "database",
    auth: text(view.auth),
    enabled: view.enabled !== false,
    inForce: view.in_force === true,
  };
}

function matching(filter: { text?: string; state?: string; source?: string }) {
  const words = filter.text?.toLowerCase();
  // Not an object: `state` may be the name of one of its methods.
  const states = new Map<string | undefined, (route: ListedRoute) => boolean>([
    ["enabled", ({ enabled, inForce }) => enabled && inForce],
    ["disabled", ({ enabled }) => !enabled],
    ["not_in_force", ({ inForce }) => !inForce],
  ]);
  const inState = states.get(filter.state) ?? (() => true);
  return (route: ListedRoute) =>
    inState(route) &&
    (filter.source === undefined || route.source === filter.source) &&
    (words === undefined ||
      [route.id, route.name, route.url].some((one) => one.toLowerCase().includes(words)));
}

function problemsOf(value: unknown): { path: string; message: string; fix: string }[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one: unknown) =>
    isJsonObject(one) ? [{ path: text(one.path), message: text(one.message), fix: text(one.fix) }] : [],
  );
}

/** What discovery has found, as shown. */
function discoveredFacts(found: JsonObject): readonly (readonly [term: string, value: string])[] {
  const scopes = Array.isArray(found.scopes) ? found.scopes.map(String).join(" ") : "";
  return [
    ["Authorization server", text(found.issuer)],
    ["Authorization endpoint", text(found.authorization_endpoint)],
    ["Token endpoint", text(found.token_endpoint)],
    ["Scopes", scopes],
    ["Client id", text(found.client_id)],
    ["Client", text(found.registered_how)],
    ["Found", text(found.at)],
  ];
}

function dateOf(value: unknown): Date | undefined {
  return typeof value === "string" ? new Date(value) : undefined;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
