import Router from "@koa/router";
import type { Context } from "koa";
import { sentence } from "../../config/problems.ts";
import { enterCodePage } from "../../pages/admin/sign-in-pages.ts";
import { errorPage } from "../../pages/error-page.ts";
import { hasNul, isGivenUp, readForm, requestId } from "../../server/http/request.ts";
import { StoreUnavailable } from "../../store/errors.ts";
import { AdminError, type AdminRole } from "../access.ts";
import { addAccessPages } from "./access-pages.ts";
import { objectionTo } from "./guard.ts";
import { addKeyPages } from "./key-pages.ts";
import { addOverviewPage } from "./overview-page.ts";
import type { AdminPageDeps, Handler, PageRoutes } from "./page-requests.ts";
import { createPageSessions } from "./page-sessions.ts";
import { addRoutePages } from "./route-pages.ts";
import { sendAdminPage } from "./send-admin-page.ts";
import { addServiceAccountPages } from "./service-account-pages.ts";

/** `/admin/` of the private port: pages for people whom `admin_api.admins` or `viewers` allows. They work without scripts. */
export function createAdminPage(deps: AdminPageDeps): Router {
  const { routes, logger } = deps;
  const sessions = createPageSessions(deps);
  const router = new Router();

  /** Everything but the section's own work: whether there is an admin page, where the request comes from, who sends it. */
  const guarded =
    (handler: (ctx: Context) => Promise<void>) =>
    async (ctx: Context, next: () => Promise<void>): Promise<void> => {
      const { adminApi } = routes().config;
      if (adminApi.admins === undefined && adminApi.viewers === undefined) return next();
      const objection = objectionTo(ctx, adminApi.hosts);
      try {
        if (!objection) {
          if (hasNul(ctx)) throw new AdminError(400, "invalid_parameter", "the address contains a NUL");
          return await handler(ctx);
        }
        logger.warn(
          { requestId: requestId(ctx.req), reason: objection.code, path: ctx.path },
          "a request to the admin page was rejected",
        );
        fail(ctx, 403, objection.code, objection.happened, objection.remedy);
      } catch (error) {
        if (isGivenUp(ctx)) logger.debug({ path: ctx.path }, "client closed the request");
        else answerError(ctx, error);
      }
    };
  const signedIn = (needed: AdminRole, handler: Handler) =>
    guarded(async (ctx) => {
      const form = ctx.method === "POST" ? await readForm(ctx) : new URLSearchParams();
      const actor = await sessions.actor(ctx);
      if (!actor) return ctx.redirect("/admin/sign-in");
      if (ctx.method === "POST" && !sessions.csrfMatches(actor, form.get("csrf")))
        return fail(
          ctx,
          403,
          "csrf",
          "The form was not submitted from this page in this browser, or you have signed in again since. Nothing was changed.",
          "Open the administration again.",
        );
      if (needed === "admin" && actor.role !== "admin")
        return fail(ctx, 403, "forbidden", "Viewers cannot see or change this.", "Ask an administrator.");
      await handler({ ctx, actor, form });
    });

  router.get(
    "/admin/sign-in",
    guarded(async (ctx) => showSignIn(ctx, 200)),
  );
  router.post(
    "/admin/sign-in",
    guarded(async (ctx) => {
      const outcome = await sessions.signIn(ctx, (await readForm(ctx)).get("code") ?? "");
      if (outcome === "ok") return seeOther(ctx, "/admin/");
      const problem =
        outcome === "too_many"
          ? "Too many codes were entered. Try again in a quarter of an hour."
          : "This code is wrong, expired or used. Get a new one.";
      showSignIn(ctx, outcome === "too_many" ? 429 : 403, problem);
    }),
  );
  router.post(
    "/admin/sign-out",
    signedIn("viewer", async ({ ctx, actor }) => {
      await sessions.end(ctx, actor);
      seeOther(ctx, "/admin/sign-in");
    }),
  );

  function showSignIn(ctx: Context, status: number, problem?: string): void {
    const { issuer, paths } = routes().config;
    sendAdminPage(ctx, status, enterCodePage({ codePage: `${issuer}${paths.prefix}/admin`, problem }));
  }

  const pages: PageRoutes = {
    get: (path, needed, handler) => void router.get(path, signedIn(needed, handler)),
    post: (path, handler) => void router.post(path, signedIn("admin", handler)),
  };
  addOverviewPage(pages, deps);
  addRoutePages(pages, deps);
  addAccessPages(pages, deps);
  addServiceAccountPages(pages, deps);
  addKeyPages(pages, deps);
  // Everything else but the admin API, which has its own answers.
  router.get(
    /^\/admin\/(?!v1(?:\/|$))/,
    guarded(async (ctx) => fail(ctx, 404, "not_found", "There is no such page.", "Go to the overview.")),
  );

  function answerError(ctx: Context, error: unknown): void {
    const known = describe(error);
    if (known === undefined)
      logger.error(
        { err: error, requestId: requestId(ctx.req), path: ctx.path },
        "a request to the admin page failed",
      );
    fail(ctx, ...(known ?? unexpected));
  }
  return router;
}

type Failure = readonly [status: number, code: string, happened: string, remedy: string];
const unexpected: Failure = [
  500,
  "internal",
  "Something went wrong on our side.",
  "Try again; the log has the request id.",
];

function describe(error: unknown): Failure | undefined {
  if (error instanceof AdminError)
    return [error.status, error.code, sentence(error.message), error.remedy ?? "Go back, and correct it."];
  if (error instanceof StoreUnavailable)
    return [503, error.code, "The gateway cannot reach its database.", "Try again in a moment."];
  if (error instanceof Error && "expose" in error && error.expose && "status" in error)
    return [Number(error.status), "invalid_request", sentence(error.message), "Go back, and try again."];
  return undefined;
}

function seeOther(ctx: Context, location: string): void {
  ctx.set("cache-control", "no-store");
  ctx.status = 303;
  ctx.redirect(location);
}

function fail(ctx: Context, status: number, code: string, happened: string, remedy: string): void {
  const page = errorPage({
    title: status >= 500 ? "Something went wrong" : "Not possible",
    happened,
    remedy,
    code,
    requestId: requestId(ctx.req),
    action: { label: "Administration", href: "/admin/" },
  });
  sendAdminPage(ctx, status, page);
}
