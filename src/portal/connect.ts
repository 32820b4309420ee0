import Router from "@koa/router";
import type { Context } from "koa";
import type { CurrentRoutes } from "../config/route-table.ts";
import { connectOrigin } from "../config/upstream-callback.ts";
import type { Route } from "../model/route.ts";
import { popupDonePage, popupScript } from "../pages/confirm-connection-page.ts";
import { errorPage } from "../pages/error-page.ts";
import { requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { BrowserSession, SignIn } from "../sign-in/sign-in.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import {
  type FailureCode,
  failureWords,
  isPassing,
  isRefusal,
  type UpstreamAnswer,
  writeUpstreamAnswer,
} from "../upstream-oauth/failures.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";
import {
  createConfirmConnection,
  isAllowedReturn,
  routeToConnect,
  stateCookie,
} from "./confirm-connection.ts";

interface ConnectDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<Store, "pendingAuthorizations">;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches">;
  readonly upstreamOAuth: Pick<
    UpstreamOAuth,
    "begin" | "notice" | "finish" | "clientMetadataDocument" | "clientJwks"
  >;
  readonly upstreamTokens: Pick<UpstreamTokens, "connectionState">;
  readonly logger: Logger;
  /** Whether policy lets this person reach the route; default: everybody who is signed in. */
  readonly mayReach?: (person: BrowserSession, route: Route) => boolean;
}
interface Ending {
  readonly routeId?: string;
  readonly returnTo: string;
  readonly popup: boolean;
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly reason?: FailureCode;
    readonly answer?: UpstreamAnswer;
  };
}

/** Connecting a person to an upstream in the browser: leaving, coming back, and the document that says who we are. */
export function createConnectRouter(deps: ConnectDeps): Router {
  const { routes, signIn, upstreamOAuth, upstreamTokens, logger } = deps;
  const prefix = routes().config.paths.prefix;
  const confirmation = createConfirmConnection(deps);
  const router = new Router();
  router.use(confirmation.router.routes());
  const originOf = (ctx: Context) => routes().originOf(ctx.host) ?? `https://${ctx.host}`;
  const hostOf = (ctx: Context) => new URL(originOf(ctx)).host;

  router.get(`${prefix}/mcp/connect`, async (ctx) => {
    privately(ctx);
    const table = routes();
    const host = hostOf(ctx);
    const returnTo = one(ctx, "redirect_url");
    const popup = one(ctx, "popup") === "1";
    const route = routeToConnect(table, host, one(ctx, "route"), one(ctx, "path"));
    if (!returnTo || !isAllowedReturn(table, route?.origin ?? originOf(ctx), returnTo)) {
      return refuse(ctx, 400, "invalid_redirect_url", {
        happened: "The link names no place to return to, or one that this service does not know.",
        remedy:
          "The application must pass redirect_url: an https URL on its own host, as configured here, or on this host.",
      });
    }
    if (!route) {
      return refuse(ctx, 400, "unknown_route", {
        happened: "The link does not say which server to connect, or names one that is not here.",
        remedy: "Pass route: the id or URL of a server on this host.",
      });
    }
    if (one(ctx, "declined") === "1") {
      const error = { code: "access_denied", message: "you did not agree" };
      return end(ctx, { routeId: route.id, returnTo, popup, error });
    }
    const origin = connectOrigin(table.config, route);
    if (new URL(origin).host !== host) {
      if (one(ctx, "ended") === "1") return endHere(ctx, { routeId: route.id, returnTo, popup });
      return ctx.redirect(
        `${origin}${prefix}/mcp/connect?${wishQuery({ routeId: route.id, path: route.askedPath, returnTo, popup })}`,
      );
    }
    const person = await personFor(ctx);
    if (!person) return;
    if (deps.mayReach && !deps.mayReach(person, route)) {
      const about = { requestId: requestId(ctx.req), userId: person.userId, route: route.id };
      logger.info({ ...about, reason: "not_allowed", host: ctx.host }, "a connection was not made");
      return end(ctx, {
        routeId: route.id,
        returnTo,
        popup,
        error: { code: "access_denied", message: "you may not use this server" },
      });
    }
    const { state, fault } = await upstreamTokens.connectionState(person.userId, route);
    if (state === "connected" || state === "not_needed")
      return end(ctx, { routeId: route.id, returnTo, popup });
    if (state === "unavailable") {
      const message = "the server's authorization server cannot be reached now";
      return end(ctx, {
        routeId: route.id,
        returnTo,
        popup,
        error: {
          code: fault === undefined || isPassing(fault) ? "temporarily_unavailable" : "server_error",
          message: fault === undefined ? message : failureWords[fault],
          reason: fault,
        },
      });
    }
    // A session here may have been planted: the issuer's host says who the person is, and asks them.
    const wish = { route, returnTo, popup };
    const session = one(ctx, "session");
    const code = one(ctx, "confirmed");
    if (!code) return ctx.redirect(confirmation.ask(ctx, wish, { session }));
    const confirmed = await confirmation.redeem(ctx, code, person, wish);
    if (!confirmed) {
      return refuse(ctx, 403, "not_confirmed", {
        happened: "The confirmation is not meant for this browser, has been used already, or is too old.",
        remedy: "Go back to where you started and connect again.",
      });
    }
    const { shown } = confirmed;
    const begun = await upstreamOAuth.begin({ userId: person.userId, route, returnTo, popup, shown });
    // Where the way leads, or what for, is not what the person has seen: the page, once more.
    if (!begun.ok && begun.notice) return ctx.redirect(confirmation.ask(ctx, wish, { session, show: true }));
    if (!begun.ok) {
      const { oauthError, message, code: reason, answer } = begun;
      const error = { code: oauthError, message, reason, answer };
      return end(ctx, { routeId: route.id, returnTo, popup, error });
    }
    stateCookie.set(ctx, begun.state, table.config.upstreamOAuth.pendingTtl);
    ctx.redirect(begun.location);
  });

  // The one without an id is for hosts with one OAuth route.
  router.get(
    [`${prefix}/mcp/client/oauth/callback`, `${prefix}/mcp/client/oauth/callback/:id`],
    async (ctx) => {
      privately(ctx);
      const params = new URLSearchParams(ctx.querystring);
      const person = await signIn.person(ctx);
      if (!person) {
        return refuse(ctx, 403, "signed_out", {
          happened: "You have been signed out here in the meantime.",
          remedy: "Go back to where you started and connect again.",
        });
      }
      const state = params.get("state") ?? "";
      const finished = await upstreamOAuth.finish({
        params,
        callback: `${originOf(ctx)}${ctx.path}`,
        host: hostOf(ctx),
        userId: person.userId,
        browserState: stateCookie.get(ctx, state),
      });
      if (finished.ok) {
        stateCookie.clear(ctx, state);
        if (finished.again) {
          stateCookie.set(ctx, finished.again.state, routes().config.upstreamOAuth.pendingTtl);
          return ctx.redirect(finished.again.location);
        }
        return end(ctx, finished);
      }
      const { returnTo, popup = false, routeId, oauthError, message, answer } = finished;
      if (returnTo) {
        stateCookie.clear(ctx, state);
        return end(ctx, {
          routeId,
          returnTo,
          popup,
          error: { code: oauthError, message, reason: finished.code, answer },
        });
      }
      return refuse(ctx, 400, finished.code, {
        happened: `The connection was not made: ${message}.`,
        remedy: "Go back to where you started and connect again.",
      });
    },
  );

  for (const [file, confidential] of [
    ["metadata.json", false],
    ["confidential.json", true],
  ] as const) {
    router.get([`${prefix}/mcp/client/${file}`, `${prefix}/mcp/client/:id/${file}`], (ctx) => {
      const { id } = ctx.params;
      publish(ctx, 3600, upstreamOAuth.clientMetadataDocument(hostOf(ctx), { id, confidential }));
    });
  }
  // Not for longer than a new key is published before it signs.
  router.get(`${prefix}/mcp/client/jwks.json`, (ctx) => publish(ctx, 300, upstreamOAuth.clientJwks()));

  router.get(`${prefix}/mcp/connect/done.js`, (ctx) => {
    ctx.set({ "cache-control": "public, max-age=86400", "x-content-type-options": "nosniff" });
    ctx.type = "js";
    ctx.body = popupScript;
  });

  /** The person at the browser; undefined when the answer is a trip to sign in first. */
  async function personFor(ctx: Context): Promise<BrowserSession | undefined> {
    const person = await signIn.person(ctx);
    const session = one(ctx, "session");
    const fits = (who: BrowserSession) =>
      !session || [who.sessionName, who.parentSessionName].includes(session);
    if (person && fits(person)) return person;
    if (person && one(ctx, "again") === "1") {
      refuse(ctx, 403, "other_session", {
        happened: "Somebody else is signed in in this browser than the one who asked for this connection.",
        remedy: "Sign out, then start again from the application.",
      });
      return undefined;
    }
    // Back here by hand-over; should it bring the same session again, that is the end of it.
    const query = new URLSearchParams(ctx.querystring);
    if (person) query.set("again", "1");
    ctx.redirect(await signIn.begin(ctx, `${ctx.path}?${query}`));
    return undefined;
  }

  function end(ctx: Context, ending: Ending): void {
    const route = routes().byId(ending.routeId ?? "");
    // Whoever opened a pop-up expects its message from the server's origin.
    if (!ending.popup || !route || route.host === hostOf(ctx)) {
      finish(ctx, ending);
      return;
    }
    const query = wishQuery(ending);
    query.set("ended", "1");
    if (ending.error) query.set("connect_error", ending.error.code);
    ctx.redirect(`${route.origin}${prefix}/mcp/connect?${query}`);
  }

  /** The end of a pop-up that has connected on the issuer's host; nothing rests on what the link says. */
  function endHere(ctx: Context, ending: Ending): void {
    const code = one(ctx, "connect_error");
    const error =
      code === undefined
        ? undefined
        : {
            code: /^[\w.:-]{1,64}$/.test(code) ? code : "server_error",
            message: failureInWords(code).replace(/\.$/, ""),
          };
    finish(ctx, { ...ending, error });
  }

  function finish(ctx: Context, { routeId, returnTo, popup, error }: Ending): void {
    const url = new URL(returnTo);
    if (error) {
      url.searchParams.set("connect_error", error.code);
      url.searchParams.set("connect_error_description", error.message);
      if (error.reason) url.searchParams.set("connect_error_reason", error.reason);
      if (error.answer) writeUpstreamAnswer(url.searchParams, error.answer);
    }
    if (!popup) {
      ctx.redirect(url.href);
      return;
    }
    const server = routes().byId(routeId ?? "")?.name ?? "The server";
    const page = popupDonePage({
      openerOrigin: url.origin,
      returnTo: url.href,
      message: { type: "mcp_connect", route: routeId, connected: !error, error: error?.code },
      title: error ? "Not connected" : "Connected",
      text: error
        ? `${server} was not connected: ${error.message}.`
        : `${server} is connected. You can close this window.`,
      script: `${prefix}/mcp/connect/done.js`,
    });
    sendPage(ctx, 200, page);
    const policy = ctx.response.get("content-security-policy");
    ctx.set("content-security-policy", `${policy}; script-src ${originOf(ctx)}${prefix}/mcp/connect/done.js`);
    // The page must be able to see the window that opened it.
    ctx.remove("cross-origin-opener-policy");
  }

  function refuse(
    ctx: Context,
    status: number,
    code: string,
    words: { happened: string; remedy: string },
  ): void {
    const id = requestId(ctx.req);
    logger.info({ requestId: id, reason: code, host: ctx.host }, "a connection was not made");
    sendPage(ctx, status, errorPage({ title: "Not connected", ...words, code, requestId: id }));
  }

  return router;
}

function wishQuery(wish: Ending & { readonly path?: string }): URLSearchParams {
  const { routeId = "", path, returnTo, popup } = wish;
  return new URLSearchParams({
    route: routeId,
    ...(path === undefined ? {} : { path }),
    redirect_url: returnTo,
    ...(popup ? { popup: "1" } : {}),
  });
}
/** Neither caches nor the next site may learn the URL: it carries a code. */
function privately(ctx: Context): void {
  ctx.set({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
}
/** For whoever asks, other sites' scripts too; nothing there: 404. */
function publish(ctx: Context, maxAgeSeconds: number, document: object | undefined): void {
  ctx.set({ "access-control-allow-origin": "*", "x-content-type-options": "nosniff" });
  if (document) ctx.set("cache-control", `public, max-age=${maxAgeSeconds}`);
  else ctx.status = 404;
  ctx.body = document ?? { error: "not_found", error_description: "No server on this host is discovered." };
}
/** A query parameter that was given once. */
function one(ctx: Context, name: string): string | undefined {
  const value = ctx.query[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Why a connection was not made, in words of ours: anybody can make a link that has an error code. */
export function failureInWords(code: string | string[], reason?: FailureCode): string {
  const isRefused = isRefusal(code, reason);
  if (reason !== undefined && !isRefused) return `${failureWords[reason]} (${reason}).`;
  if (isRefused) return "it was refused there, or you may not use this server.";
  if (code === "temporarily_unavailable") return "its sign-in cannot be reached just now. Try again later.";
  return "its sign-in did not work. Try again; if it stays so, tell the people who run this service.";
}
