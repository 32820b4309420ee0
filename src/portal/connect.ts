import Router from "@koa/router";
import type { Context } from "koa";
import { connectOrigin } from "../config/callback-urls.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
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
  isDenial,
  isTransient,
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
  /** Whether policy allows this user to reach the route; default: all signed-in users. */
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

/** Connects a user to an upstream in the browser: redirect, callback, and our client metadata document. */
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
      return reject(ctx, 400, "invalid_redirect_url", {
        happened: "The link has no return URL, or one that is not allowed.",
        remedy:
          "The application must pass redirect_url: an https URL on this host, or on the application's host as configured here.",
      });
    }
    if (!route) {
      return reject(ctx, 400, "unknown_route", {
        happened: "The link does not name a server to connect, or names one that is not on this host.",
        remedy: "Pass route: the id or URL of a server on this host.",
      });
    }
    if (one(ctx, "declined") === "1") {
      const error = { code: "access_denied", message: "you did not allow it" };
      return end(ctx, { routeId: route.id, returnTo, popup, error });
    }
    const origin = connectOrigin(table.config, route);
    if (new URL(origin).host !== host) {
      if (one(ctx, "ended") === "1") return endHere(ctx, { routeId: route.id, returnTo, popup });
      return ctx.redirect(
        `${origin}${prefix}/mcp/connect?${connectQuery({ routeId: route.id, path: route.askedPath, returnTo, popup })}`,
      );
    }
    const person = await personFor(ctx);
    if (!person) return;
    if (deps.mayReach && !deps.mayReach(person, route)) {
      const about = { requestId: requestId(ctx.req), userId: person.userId, route: route.id };
      logger.info({ ...about, reason: "not_allowed", host: ctx.host }, "connection not created");
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
      const message = "the server's authorization server cannot be reached";
      return end(ctx, {
        routeId: route.id,
        returnTo,
        popup,
        error: {
          code: fault === undefined || isTransient(fault) ? "temporarily_unavailable" : "server_error",
          message: fault === undefined ? message : failureWords[fault],
          reason: fault,
        },
      });
    }
    // A session on this host may have been planted: the issuer's host identifies the user and asks for confirmation.
    const wanted = { route, returnTo, popup };
    const session = one(ctx, "session");
    const code = one(ctx, "confirmed");
    if (!code) return ctx.redirect(confirmation.ask(ctx, wanted, { session }));
    const confirmed = await confirmation.redeem(ctx, code, person, wanted);
    if (!confirmed) {
      return reject(ctx, 403, "not_confirmed", {
        happened: "The confirmation is for another browser, has already been used, or has expired.",
        remedy: "Go back to where you started and connect again.",
      });
    }
    const { shown } = confirmed;
    const begun = await upstreamOAuth.begin({ userId: person.userId, route, returnTo, popup, shown });
    // The authorization server or the scopes differ from those that the user has seen: show the page again.
    if (!begun.ok && begun.notice)
      return ctx.redirect(confirmation.ask(ctx, wanted, { session, show: true }));
    if (!begun.ok) {
      const { oauthError, message, code: reason, answer } = begun;
      const error = { code: oauthError, message, reason, answer };
      return end(ctx, { routeId: route.id, returnTo, popup, error });
    }
    stateCookie.set(ctx, begun.state, table.config.upstreamOAuth.pendingTtl);
    ctx.redirect(begun.location);
  });

  // The path without an id is for hosts with one OAuth route.
  router.get(
    [`${prefix}/mcp/client/oauth/callback`, `${prefix}/mcp/client/oauth/callback/:id`],
    async (ctx) => {
      privately(ctx);
      const params = new URLSearchParams(ctx.querystring);
      const person = await signIn.person(ctx);
      if (!person) {
        return reject(ctx, 403, "signed_out", {
          happened: "You have been signed out in the meantime.",
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
      return reject(ctx, 400, finished.code, {
        happened: `The connection was not created: ${message}.`,
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
  // Cached no longer than a new key is published before it signs.
  router.get(`${prefix}/mcp/client/jwks.json`, (ctx) => publish(ctx, 300, upstreamOAuth.clientJwks()));

  router.get(`${prefix}/mcp/connect/done.js`, (ctx) => {
    ctx.set({ "cache-control": "public, max-age=86400", "x-content-type-options": "nosniff" });
    ctx.type = "js";
    ctx.body = popupScript;
  });

  /** The user of the browser; undefined if the response redirects to sign-in first. */
  async function personFor(ctx: Context): Promise<BrowserSession | undefined> {
    const person = await signIn.person(ctx);
    const session = one(ctx, "session");
    const fits = (who: BrowserSession) =>
      !session || [who.sessionName, who.parentSessionName].includes(session);
    if (person && fits(person)) return person;
    if (person && one(ctx, "again") === "1") {
      reject(ctx, 403, "other_session", {
        happened: "This browser is signed in as a different user than the one who requested this connection.",
        remedy: "Sign out, then start again from the application.",
      });
      return undefined;
    }
    // The hand-over returns here; `again` stops a loop if it brings the same session.
    const query = new URLSearchParams(ctx.querystring);
    if (person) query.set("again", "1");
    ctx.redirect(await signIn.begin(ctx, `${ctx.path}?${query}`));
    return undefined;
  }

  function end(ctx: Context, ending: Ending): void {
    const route = routes().byId(ending.routeId ?? "");
    // The opener of a pop-up expects its message from the server's origin.
    if (!ending.popup || !route || route.host === hostOf(ctx)) {
      finish(ctx, ending);
      return;
    }
    const query = connectQuery(ending);
    query.set("ended", "1");
    if (ending.error) query.set("connect_error", ending.error.code);
    ctx.redirect(`${route.origin}${prefix}/mcp/connect?${query}`);
  }

  /** Ends a pop-up that has connected on the issuer's host. The link is untrusted and only affects the message. */
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
    // The page needs access to its opener.
    ctx.remove("cross-origin-opener-policy");
  }

  function reject(
    ctx: Context,
    status: number,
    code: string,
    words: { happened: string; remedy: string },
  ): void {
    const id = requestId(ctx.req);
    logger.info({ requestId: id, reason: code, host: ctx.host }, "connection not created");
    sendPage(ctx, status, errorPage({ title: "Not connected", ...words, code, requestId: id }));
  }

  return router;
}

function connectQuery(connection: Ending & { readonly path?: string }): URLSearchParams {
  const { routeId = "", path, returnTo, popup } = connection;
  return new URLSearchParams({
    route: routeId,
    ...(path === undefined ? {} : { path }),
    redirect_url: returnTo,
    ...(popup ? { popup: "1" } : {}),
  });
}
/** Keeps the URL, which contains a code, from caches and the next site. */
function privately(ctx: Context): void {
  ctx.set({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
}
/** Public, for scripts of all sites; 404 without a document. */
function publish(ctx: Context, maxAgeSeconds: number, document: object | undefined): void {
  ctx.set({ "access-control-allow-origin": "*", "x-content-type-options": "nosniff" });
  if (document) ctx.set("cache-control", `public, max-age=${maxAgeSeconds}`);
  else ctx.status = 404;
  ctx.body = document ?? { error: "not_found", error_description: "No server on this host uses discovery." };
}
/** A query parameter that is present exactly once. */
function one(ctx: Context, name: string): string | undefined {
  const value = ctx.query[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Why a connection was not created. Fixed texts only: anyone can create a link with an error code. */
export function failureInWords(code: string | string[], reason?: FailureCode): string {
  const isDenied = isDenial(code, reason);
  if (reason !== undefined && !isDenied) return `${failureWords[reason]} (${reason}).`;
  if (isDenied) return "it was denied there, or you may not use this server.";
  if (code === "temporarily_unavailable") return "its sign-in is unavailable. Try again later.";
  return "its sign-in failed. Try again; if it keeps failing, tell your administrator.";
}
