import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { derivedRouteId } from "../config/build-route.ts";
import { labelMembers } from "../config/labels.ts";
import type { LiveConfig } from "../config/live-config.ts";
import type { Problem } from "../config/problems.ts";
import { type CurrentRoutes, createRouteTable } from "../config/route-table.ts";
import type { StoredRoutesBuilt } from "../config/stored-routes.ts";
import type { Route, RouteDiscovery } from "../model/route.ts";
import type { Store } from "../store/store.ts";
import type { StoredRoute } from "../store/stored-routes.ts";
import { adviceFor } from "../upstream-oauth/operator-advice.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import { type Actor, AdminError, type AdminRole } from "./access.ts";
import { changedFields } from "./changed-fields.ts";
import { discoveryNeed, isDiscovered } from "./discovery-need.ts";
import { withoutAliases } from "./field-aliases.ts";
import { changedEntry, emptySettings, type JsonObject, newEntry, withoutSecrets } from "./route-settings.ts";
import { checkShape } from "./settings-shape.ts";

export interface StoredRouteChangesDeps {
  readonly routes: CurrentRoutes;
  readonly live: Pick<LiveConfig, "tryStoredRoutes">;
  readonly store: { readonly storedRoutes: Store["storedRoutes"] };
  readonly upstreamOAuth: Pick<UpstreamOAuth, "prepare">;
  /** Loads the stored routes into this process. */
  readonly refresh: () => Promise<void>;
}

/** Creates, changes and deletes stored routes, and records the actor. When a method throws `AdminError`, nothing has changed. */
export interface StoredRouteChanges {
  /** @returns the new route's id */
  create(actor: Actor, input: JsonObject): Promise<string>;
  /** @param version the version that the change is based on, if the caller names it */
  change(actor: Actor, id: string, input: JsonObject, version: number | undefined): Promise<void>;
  /** @param version as for a change */
  delete(actor: Actor, id: string, version: number | undefined): Promise<void>;
}

export function createStoredRouteChanges(deps: StoredRouteChangesDeps): StoredRouteChanges {
  const { store, live, routes } = deps;

  /**
   * Builds the route of `entry` next to the other stored routes.
   * @param before the stored routes as they are now
   * @throws AdminError with all problems of the entry, or if another stored route would no longer be served
   */
  function build(
    id: string,
    entry: JsonObject,
    others: readonly StoredRoute[],
    before: readonly StoredRoute[] = others,
  ) {
    const stored = before.find((one) => one.id === id);
    // A route from before a rule must not prevent a change of something else, such as disabling it.
    const version = isDeepStrictEqual(stored?.entry.mcp, entry.mcp) ? stored?.version : undefined;
    const tried = live.tryStoredRoutes([...others, { id, entry, version }]);
    const route = tried.read.get(id);
    const problems = tried.problems.get(id) ?? [];
    if (route === undefined) throw new AdminError(400, "invalid_route", "the route is invalid", { problems });
    const all = [...tried.config.routes, ...tried.read.values()];
    if (all.some((other) => other !== route && other.host === route.host && other.prefix === route.prefix))
      throw new AdminError(409, "duplicate", `${route.resource} is already used by another route`);
    const errors = problems.filter(({ severity }) => severity === "error");
    if (errors.length > 0)
      throw new AdminError(400, "invalid_route", "the route is invalid", { problems: errors });
    requireInForce(id, tried, before);
    return { route, config: tried.config };
  }

  /** @throws AdminError if stored routes that are in force before a change of `id` would not be after it: they name it, say. */
  function requireInForce(
    id: string,
    { problems }: Pick<StoredRoutesBuilt, "problems">,
    before: readonly StoredRoute[],
  ): void {
    if ([...problems.keys()].every((other) => other === id)) return;
    const already = live.tryStoredRoutes(before).problems;
    const broken = [...problems].filter(([other]) => other !== id && !already.has(other));
    if (broken.length === 0) return;
    const ids = broken.map(([other]) => other).join(", ");
    throw new AdminError(409, "in_use", `other stored routes would no longer be served: ${ids}`, {
      problems: broken.flatMap(([other, found]) =>
        found.map((problem) => ({ ...problem, path: `${other}: ${problem.path}` })),
      ),
      remedy: `change or delete ${ids} first, or disable ${id} (enabled: false): an aggregated route goes on without a disabled member`,
    });
  }

  /**
   * Runs discovery, and client registration if the route has no client, before the first user needs them.
   *
   * @returns what to store, and a way to take a registration back if the route is not stored
   * @throws AdminError if it fails and is `required`
   */
  async function prepare(
    route: Route,
    config: Parameters<typeof createRouteTable>[0],
    need: "optional" | "required",
  ): Promise<{ readonly discovery?: RouteDiscovery | null; undo(): Promise<void> }> {
    if (!isDiscovered(route)) return { ...unprepared, discovery: null };
    // It runs when the route is enabled, or has its secret again.
    if (!route.enabled || route.missingSecrets) return unprepared;
    const found = await deps.upstreamOAuth.prepare(route, createRouteTable(config));
    if (found.ok) return { discovery: found.discovery ?? null, undo: found.undo };
    if (need === "optional") return unprepared;
    const remedy = adviceFor(found.code, route);
    throw new AdminError(422, found.code, found.message, { remedy });
  }

  /** @throws AdminError for secrets and lists of headers that are empty in a new route */
  function rejectEmpty(entry: JsonObject): void {
    const problems = emptySettings(entry).map(
      (path): Problem => ({
        ...{ severity: "error", file: "", line: 1, column: 1, path },
        message: `${path.split(".").at(-1)} is empty`,
        fix: "give it a value, or leave the key out",
      }),
    );
    if (problems.length > 0) throw new AdminError(400, "invalid_route", "the route is invalid", { problems });
  }

  function rejectFileRoute(id: string): void {
    if (routes().byId(id) === undefined) throw new AdminError(404, "not_found", `there is no route ${id}`);
    throw new AdminError(
      409,
      "in_routes_file",
      `the route ${id} is defined in the routes file: change it there`,
    );
  }

  return {
    async create(actor, input) {
      checkShape(input);
      const entry = newEntry(withoutAliases(input));
      rejectEmpty(entry);
      const { routes: others, unreadable } = await store.storedRoutes.listAll();
      const given = typeof entry.id === "string" ? entry.id : undefined;
      const taken = (id: string) =>
        routes().byId(id) !== undefined || [...others, ...unreadable].some((other) => other.id === id);
      if (given !== undefined && taken(given))
        throw new AdminError(409, "duplicate", `the id ${given} is already in use`);
      const first = build(given ?? `new-${randomUUID()}`, entry, others);
      const id = given ?? derivedRouteId(first.route.resource);
      const { route, config } = id === first.route.id ? first : build(id, entry, others);
      const { discovery, undo } = await prepare(route, config, "required");
      await requireAccess(actor, undo);
      const place = route.host + route.prefix;
      const event = {
        action: "route.created",
        ...{ actor: actor.name, routeId: id, upstream: route.upstream },
        detail: { url: route.resource },
      } as const;
      const created = await orUndo(
        store.storedRoutes.create({ id, place, entry: { ...entry, id }, discovery }, event),
        undo,
      );
      if (!created) {
        await undo();
        throw new AdminError(409, "duplicate", `${id} or ${route.resource} is already in use`);
      }
      await deps.refresh();
      return id;
    },

    async change(actor, id, written, version) {
      checkShape(written);
      const input = withoutAliases(written);
      const all = await store.storedRoutes.list();
      const stored = all.find((one) => one.id === id);
      if (stored === undefined) return rejectFileRoute(id);
      requireVersion(stored, version);
      if (input.id !== undefined && trimmedText(input.id) !== id)
        throw new AdminError(400, "id_is_fixed", "an id cannot be changed: connections refer to it");
      const entry = changedEntry(stored.entry, input);
      const others = all.filter((one) => one !== stored);
      const { route, config } = build(id, entry, others, [...others, stored]);
      const before = live.tryStoredRoutes(all).read.get(id);
      const need = discoveryNeed(before, route);
      const { discovery, undo } = need === "no" ? unprepared : await prepare(route, config, need);
      if (need !== "no") await requireAccess(actor, undo);
      const event = {
        action: "route.changed",
        ...{ actor: actor.name, routeId: id, upstream: route.upstream },
        detail: { changed: changedFields(stored.entry, entry), url: route.resource },
      } as const;
      const changed = { id, place: route.host + route.prefix, entry, discovery };
      const outcome = await orUndo(store.storedRoutes.replace(changed, stored.version, event), undo);
      // Another change of the route may use the registration.
      if (outcome === "duplicate") await undo();
      if (outcome === "duplicate")
        throw new AdminError(409, "duplicate", `${route.resource} is already in use`);
      if (outcome === "changed") throw changedMeanwhile();
      await deps.refresh();
    },

    async delete(actor, id, version) {
      const all = await store.storedRoutes.list();
      const stored = all.find((one) => one.id === id);
      if (stored !== undefined) requireVersion(stored, version);
      requireInForce(
        id,
        live.tryStoredRoutes(
          all.filter((one) => one.id !== id),
          id,
        ),
        all,
      );
      const url = live.tryStoredRoutes(all).read.get(id)?.resource;
      const event = {
        action: "route.deleted",
        actor: actor.name,
        routeId: id,
        ...(url === undefined ? {} : { detail: { url } }),
      } as const;
      if (!(await store.storedRoutes.delete(id, event, version))) {
        if (version !== undefined && stored !== undefined) throw changedMeanwhile();
        return rejectFileRoute(id);
      }
      await deps.refresh();
    },
  };
}

const unprepared: { readonly discovery?: RouteDiscovery | null; undo(): Promise<void> } = {
  undo: async () => {},
};

/** Takes back what was prepared if the route cannot be stored. If it was stored all the same, `undo` finds it there. */
async function orUndo<T>(work: Promise<T>, undo: () => Promise<void>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    await undo();
    throw error;
  }
}

/** @throws AdminError if the actor has lost their access while an upstream was asked */
async function requireAccess(actor: Actor, undo: () => Promise<void>): Promise<void> {
  if (await actor.isStillAllowed()) return;
  await undo();
  throw new AdminError(403, "forbidden", "your access has ended in the meantime");
}

function requireVersion(stored: StoredRoute, version: number | undefined): void {
  if (version !== undefined && version !== stored.version)
    throw new AdminError(412, "version_conflict", `the route is now at version ${stored.version}`);
}

function changedMeanwhile(): AdminError {
  return new AdminError(409, "version_conflict", "the route was changed by another request: read it again");
}

function trimmedText(value: unknown): unknown {
  return typeof value === "string" ? value.trim() : value;
}

/** A route as the admin API returns it (`adminSchemas.Route`), without secrets. */
export type RouteView = Readonly<Record<string, unknown>>;

/**
 * Builds the view of a route for a role. Viewers see its URL and state, neither upstreams nor settings.
 *
 * @param given.route absent if the stored entry can no longer be parsed
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
          ...labelMembers(route.labels),
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
          ...(stored.discovery === undefined ? {} : { discovery: stored.discovery }),
          settings: withoutSecrets(stored.entry),
        }),
  };
}

/** The view of a stored route whose entry cannot be decrypted, or whose row is rejected. */
export function unusableView(role: AdminRole, id: string, problems: readonly Problem[]): RouteView {
  const view = { id, source: "database", in_force: false };
  if (role !== "admin") return view;
  return { ...view, problems: problems.map(({ path, message, fix }) => ({ path, message, fix })) };
}
