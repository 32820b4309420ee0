import Router from "@koa/router";
import type { Context, Middleware } from "koa";
import type { CurrentRoutes } from "../../config/route-table.ts";
import { codeOfferPage, codePage } from "../../pages/admin/sign-in-pages.ts";
import { errorPage } from "../../pages/error-page.ts";
import { countPerHour } from "../../server/http/limits.ts";
import { readForm, requestId } from "../../server/http/request.ts";
import type { BrowserSession, SignIn } from "../../sign-in/sign-in.ts";
import type { Store } from "../../store/store.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { AdminRole } from "../access.ts";
import type { RoleOf } from "../people-roles.ts";
import { newCode } from "./one-time-code.ts";
import { sendAdminPage } from "./send-admin-page.ts";

const codeMinutes = 5;
/** Codes of one user per hour and replica. */
const codesPerHour = 20;

export interface CodePageDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<Store, "adminSessions">;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches" | "recheck">;
  readonly roleOf: RoleOf;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "limitsReached">;
}

/**
 * `PREFIX/admin` on the issuer's host: shows administrators and viewers, after they have signed in there, a one-time code for the
 * private port, which no sign-in provider can redirect to. Only a post creates a code: a link could be opened by others.
 */
export function createCodePage(deps: CodePageDeps): Router {
  const { routes, store, signIn, roleOf, logger, metrics } = deps;
  const path = `${routes().config.paths.prefix}/admin`;
  const counts = countPerHour();
  const router = new Router();
  const served: Middleware = (ctx, next) => {
    const { issuer, adminApi } = routes().config;
    const exists = adminApi.admins !== undefined || adminApi.viewers !== undefined;
    return exists && ctx.host === new URL(issuer).host ? next() : undefined;
  };

  router.get(path, served, async (ctx) => {
    const found = await personWithRole(ctx);
    const csrf = signIn.csrfToken(ctx);
    if (!found || !csrf) return;
    const person = found.person.email ?? found.person.name ?? found.person.userId;
    const page = { person, role: found.role, action: path, csrf, lifetime: codeMinutes };
    sendAdminPage(ctx, 200, codeOfferPage(page), "anywhere");
  });

  router.post(path, served, async (ctx) => {
    const form = await readForm(ctx);
    const found = await personWithRole(ctx);
    if (!found) return;
    if (!signIn.csrfMatches(ctx, form.get("csrf")))
      return fail(ctx, 403, "csrf", "The form was not submitted from this page.", "Open the page again.");
    const { userId, sessionName } = found.person;
    if (!counts.take(userId, codesPerHour)) {
      metrics.limitsReached.inc({ limit: "admin_codes" });
      ctx.set("retry-after", String(counts.retryAfter(userId)));
      return fail(ctx, 429, "too_many_requests", "You have asked for too many codes.", "Try again later.");
    }
    const code = newCode();
    const expiresAt = new Date(Date.now() + codeMinutes * 60_000);
    await store.adminSessions.addCode({ code, sessionName, userId, expiresAt });
    logger.info({ userId, actor: `user:${userId}` }, "a one-time code for the admin page was shown");
    sendAdminPage(ctx, 200, codePage({ code, lifetime: codeMinutes, back: path }), "anywhere");
  });

  /** Undefined if the request has been answered. */
  async function personWithRole(
    ctx: Context,
  ): Promise<{ readonly person: BrowserSession; readonly role: AdminRole } | undefined> {
    ctx.set("cache-control", "no-store");
    const signedIn = await signIn.person(ctx);
    const checked = signedIn && (await signIn.recheck(signedIn.userId));
    if (checked === "unavailable") {
      const happened = "Your sign-in provider cannot be reached, so your access cannot be checked.";
      fail(ctx, 503, "sign_in_unavailable", happened, "Try again in a moment.");
      return undefined;
    }
    // As the provider reports them now.
    const person = checked === "ok" ? await signIn.person(ctx) : undefined;
    if (!person) {
      const { prefix } = routes().config.paths;
      const again = `${prefix}/sign_in?${new URLSearchParams({ return_to: path, switch: "1" })}`;
      ctx.status = 303;
      ctx.redirect(checked === "sign_in_again" ? again : await signIn.begin(ctx, path));
      return undefined;
    }
    const role = roleOf(person);
    if (role !== undefined) return { person, role };
    logger.info({ userId: person.userId, reason: "not_allowed" }, "the admin page was denied");
    fail(
      ctx,
      403,
      "not_allowed",
      "You are signed in, but the administration of this gateway is not for you.",
      "Ask your administrator for access, or sign in with another account.",
    );
    return undefined;
  }

  return router;
}

function fail(ctx: Context, status: number, code: string, happened: string, remedy: string): void {
  const title = status === 429 ? "Too many codes" : "No code was created";
  sendAdminPage(
    ctx,
    status,
    errorPage({ title, happened, remedy, code, requestId: requestId(ctx.req) }),
    "anywhere",
  );
}
