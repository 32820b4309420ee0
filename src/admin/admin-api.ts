import Router from "@koa/router";
import type { Context } from "koa";
import type { LiveConfig } from "../config/live-config.ts";
import { hasNul, isGivenUp, queryParameter, readBody } from "../server/http/request.ts";
import { type AuditFilter, auditRecord } from "../store/audit-events.ts";
import { StoreUnavailable } from "../store/errors.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { productVersion } from "../util/package.ts";
import { type Actor, AdminError, type AdminRole, tokenActor } from "./access.ts";
import { openapi } from "./openapi.ts";
import { isJsonObject, type JsonObject } from "./route-settings.ts";
import { routeViews } from "./route-views.ts";
import {
  createStoredRouteChanges,
  type RouteView,
  type StoredRouteChangesDeps,
} from "./stored-route-changes.ts";

export interface AdminApiDeps extends StoredRouteChangesDeps {
  readonly live: Pick<LiveConfig, "tryStoredRoutes" | "storedProblems" | "withoutCredential">;
  readonly store: Pick<Store, "storedRoutes" | "auditEvents">;
  readonly logger: Logger;
}

/** `/admin/v1` of the private port: bearer-protected, described by its own `openapi.json`. */
export function createAdminApi(deps: AdminApiDeps): Router {
  const { routes, store, logger } = deps;
  const changes = createStoredRouteChanges(deps);
  // Generated on the first request: it takes a tenth of the startup time.
  let document: ReturnType<typeof openapi> | undefined;
  const router = new Router({ prefix: "/admin/v1" });

  router.use(async (ctx, next) => {
    ctx.set("cache-control", "no-store");
    try {
      if (hasNul(ctx)) throw new AdminError(400, "invalid_parameter", "the address contains a NUL");
      await next();
    } catch (error) {
      if (isGivenUp(ctx)) logger.debug({ path: ctx.path }, "client closed the request");
      else answerError(ctx, error, logger);
    }
  });

  const views = (role: AdminRole) => routeViews(deps, role);
  async function view(role: AdminRole, id: string | undefined): Promise<RouteView> {
    const found = (await views(role)).find((one) => one.id === id);
    if (found === undefined) throw new AdminError(404, "not_found", `there is no route ${id}`);
    return found;
  }
  /** @throws AdminError when the caller may not do this */
  function actorOf(ctx: Context, needed: AdminRole): Actor {
    const actor = tokenActor(ctx.get("authorization"), () => routes().config.adminApi);
    if (actor === undefined) throw new AdminError(401, "unauthorized", "an admin_api token is required");
    if (needed === "admin" && actor.role !== "admin")
      throw new AdminError(403, "forbidden", "an admin token is required; this is a viewer token");
    return actor;
  }

  router.get("/openapi.json", (ctx) => {
    actorOf(ctx, "viewer");
    document ??= openapi(productVersion());
    ctx.body = document;
  });
  router.get("/routes", async (ctx) => {
    ctx.body = page(await views(actorOf(ctx, "viewer").role), {
      after: queryParameter(ctx, "after"),
      limit: wholeNumber(ctx, "limit"),
    });
  });
  router.post("/routes", async (ctx) => {
    const actor = actorOf(ctx, "admin");
    const id = await changes.create(actor, await readJson(ctx));
    logger.info({ route: id, actor: actor.name }, "a route was created");
    ctx.status = 201;
    ctx.set("location", `/admin/v1/routes/${encodeURIComponent(id)}`);
    ctx.body = await view(actor.role, id);
  });
  router.get("/routes/:id", async (ctx) => {
    ctx.body = await view(actorOf(ctx, "viewer").role, ctx.params.id);
  });
  router.patch("/routes/:id", async (ctx) => {
    const actor = actorOf(ctx, "admin");
    const id = ctx.params.id ?? "";
    await changes.change(actor, id, await readJson(ctx), versionOf(ctx.get("if-match")));
    logger.info({ route: id, actor: actor.name }, "a route was changed");
    ctx.body = await view(actor.role, id);
  });
  router.delete("/routes/:id", async (ctx) => {
    const actor = actorOf(ctx, "admin");
    const id = ctx.params.id ?? "";
    await changes.delete(actor, id, versionOf(ctx.get("if-match")));
    logger.info({ route: id, actor: actor.name }, "a route was deleted");
    ctx.status = 204;
  });
  router.get("/audit", async (ctx) => {
    actorOf(ctx, "admin");
    const events = await store.auditEvents(auditFilter(ctx));
    ctx.type = "application/jsonl";
    ctx.body = events.map((event) => `${JSON.stringify(auditRecord(event))}\n`).join("");
  });
  return router;
}

function auditFilter(ctx: Context): AuditFilter {
  const one = (name: string) => queryParameter(ctx, name);
  const time = (name: string) => {
    const value = one(name);
    if (value === undefined) return undefined;
    const at = new Date(value);
    // The database has no room for the years before 4713 BC, which JavaScript has.
    if (!(at.getUTCFullYear() >= 1 && at.getUTCFullYear() <= 9999))
      throw new AdminError(400, "invalid_parameter", `${name} is not an RFC 3339 time`);
    return at;
  };
  return {
    after: wholeNumber(ctx, "after"),
    since: time("since"),
    until: time("until"),
    action: one("action"),
    userId: one("user_id"),
    routeId: one("route_id"),
    settled: one("until") === undefined,
    limit: Math.min(Math.max(wholeNumber(ctx, "limit") ?? 1000, 1), 10_000),
  };
}

/** @throws AdminError if the query parameter is not a whole number */
function wholeNumber(ctx: Context, name: string): number | undefined {
  const text = queryParameter(ctx, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new AdminError(400, "invalid_parameter", `${name} is not a whole number`);
}

/** Most routes of a page. */
const maxPage = 1000;

/**
 * All routes, in the order in which they are served; with `limit` or `after`, a page in the order of their ids, so that routes that come
 * and go in the meantime do not move the others.
 */
function page(
  all: readonly RouteView[],
  { after, limit }: { readonly after: string | undefined; readonly limit: number | undefined },
): { readonly routes: readonly RouteView[]; readonly next?: string } {
  if (after === undefined && limit === undefined) return { routes: all };
  if (limit === 0) throw new AdminError(400, "invalid_parameter", `limit is not from 1 to ${maxPage}`);
  const size = Math.min(limit ?? 100, maxPage);
  const idOf = ({ id }: RouteView) => String(id);
  const sorted = all
    .filter((one) => after === undefined || idOf(one) > after)
    .toSorted((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
  const routes = sorted.slice(0, size);
  const last = routes.at(-1);
  return { routes, ...(sorted.length > size && last !== undefined ? { next: idOf(last) } : {}) };
}

async function readJson(ctx: Context): Promise<JsonObject> {
  const text = await readBody(ctx, "application/json");
  try {
    const value: unknown = JSON.parse(text);
    if (isJsonObject(value)) return value;
  } catch {
    // Reported below.
  }
  throw new AdminError(400, "invalid_json", "the body is not a JSON object");
}

function versionOf(ifMatch: string): number | undefined {
  if (ifMatch === "") return undefined;
  const version = Number(ifMatch.replace(/^"|"$/g, ""));
  if (Number.isSafeInteger(version)) return version;
  throw new AdminError(400, "invalid_parameter", "If-Match is not a version");
}

function answerError(ctx: Context, error: unknown, logger: Logger): void {
  const answer = errorAnswer(error);
  ctx.status = answer.status;
  if (answer.status === 401) ctx.set("www-authenticate", "Bearer");
  ctx.body = answer.body;
  if (answer.status >= 500) logger.error({ err: error, path: ctx.path }, "an admin request failed");
}

function errorAnswer(error: unknown): { status: number; body: object } {
  if (error instanceof AdminError) {
    const problems = error.problems?.map(({ path, message, fix }) => ({ path, message, fix }));
    const body = { error: error.code, error_description: error.message, problems, what_to_do: error.remedy };
    return { status: error.status, body };
  }
  if (error instanceof StoreUnavailable)
    return { status: 503, body: { error: error.code, error_description: "the database is unavailable" } };
  if (error instanceof Error && "expose" in error && error.expose && "status" in error) {
    const body = { error: "invalid_request", error_description: error.message };
    return { status: Number(error.status), body };
  }
  return { status: 500, body: { error: "internal", error_description: "something went wrong on our side" } };
}
