import Router from "@koa/router";
import type { Context } from "koa";
import { connectOrigin } from "../config/callback-urls.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { popupDonePage, popupScript } from "../pages/confirm-connection-page.ts";
import { errorPage } from "../pages/error-page.ts";
import { hideUrl, queryParameter, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { BrowserSession, SignIn } from "../sign-in/sign-in.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import {
  type FailureCode,
  failureInWords,
  failureWords,
  isTransient,
  type UpstreamAnswer,
  writeUpstreamAnswer,
} from "../upstream-oauth/failures.ts";
import type { UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";
import { createConfirmConnection } from "./confirm-connection.ts";
import { isAllowedReturn, routeToConnect } from "./connection-request.ts";
import { stateCookie } from "./state-cookie.ts";

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

/** Connects a user to an upstream in the browser: redirect, the callback of the upstream's consent, and our client metadata document. */
export function createConnectRouter(deps: ConnectDeps): Router {
  return new ConnectEndpoints(deps).router();
}

class ConnectEndpoints {
  readonly #deps: ConnectDeps;
  readonly #confirmation: ReturnType<typeof createConfirmConnection>;
  readonly #prefix: string;

  constructor(deps: ConnectDeps) {
    this.#deps = deps;
    this.#confirmation = createConfirmConnection(deps);
    this.#prefix = deps.routes().config.paths.prefix;
  }

  router(): Router {
    const router = new Router();
    const connect = `${this.#prefix}/mcp/connect`;
    const client = `${this.#prefix}/mcp/client`;
    router.use(this.#confirmation.router.routes());
    router.get(connect, (ctx) => this.#begin(ctx));
    // The path without an id is for hosts with one OAuth route.
    router.get([`${client}/oauth/callback`, `${client}/oauth/callback/:id`], (ctx) => this.#callback(ctx));
    for (const [file, confidential] of [
      ["metadata.json", false],
      ["confidential.json", true],
    ] as const) {
      router.get([`${client}/${file}`, `${client}/:id/${file}`], (ctx) => {
        const { id } = ctx.params;
        const given = { id, confidential };
        publish(ctx, 3600, this.#deps.upstreamOAuth.clientMetadataDocument(this.#hostOf(ctx), given));
      });
    }
    // Cached no longer than a new key is published before it signs.
    router.get(`${client}/jwks.json`, (ctx) => publish(ctx, 300, this.#deps.upstreamOAuth.clientJwks()));
    router.get(`${connect}/done.js`, (ctx) => {
      ctx.set({ "cache-control": "public, max-age=86400", "x-content-type-options": "nosniff" });
      ctx.type = "js";
      ctx.body = popupScript;
    });
    return router;
  }

  /** `GET /mcp/connect`: redirects the user to the upstream's authorization server, after confirmation. */
  async #begin(ctx: Context): Promise<void> {
    hideUrl(ctx);
    const table = this.#deps.routes();
    const host = this.#hostOf(ctx);
    const returnTo = queryParameter(ctx, "redirect_url");
    const popup = queryParameter(ctx, "popup") === "1";
    const route = routeToConnect(table, host, queryParameter(ctx, "route"), queryParameter(ctx, "path"));
    if (!returnTo || !isAllowedReturn(table, route?.origin ?? this.#originOf(ctx), returnTo)) {
      return this.#reject(ctx, 400, "invalid_redirect_url", {
        happened: "The link has no return URL, or one that is not allowed.",
        remedy:
          "The application must pass redirect_url: an https URL on this host, or on the application's host as configured here.",
      });
    }
    if (!route) {
      return this.#reject(ctx, 400, "unknown_route", {
        happened: "The link does not name a server to connect, or names one that is not on this host.",
        remedy: "Pass route: the id or URL of a server on this host.",
      });
    }
    if (queryParameter(ctx, "declined") === "1") {
      const error = { code: "access_denied", message: "you did not allow it" };
      return this.#end(ctx, { routeId: route.id, returnTo, popup, error });
    }
    const origin = connectOrigin(table.config, route);
    if (new URL(origin).host !== host) {
      if (queryParameter(ctx, "ended") === "1")
        return this.#endHere(ctx, { routeId: route.id, returnTo, popup });
      return ctx.redirect(
        `${origin}${this.#prefix}/mcp/connect?${connectQuery({ routeId: route.id, path: route.askedPath, returnTo, popup })}`,
      );
    }
    const person = await this.#personFor(ctx);
    if (!person) return;
    if (this.#deps.mayReach && !this.#deps.mayReach(person, route)) {
      const about = { requestId: requestId(ctx.req), userId: person.userId, route: route.id };
      this.#deps.logger.info({ ...about, reason: "not_allowed", host: ctx.host }, "connection not created");
      return this.#end(ctx, {
        routeId: route.id,
        returnTo,
        popup,
        error: { code: "access_denied", message: "you may not use this server" },
      });
    }
    const { state, fault } = await this.#deps.upstreamTokens.connectionState(person.userId, route);
    if (state === "connected" || state === "not_needed")
      return this.#end(ctx, { routeId: route.id, returnTo, popup });
    if (state === "unavailable") {
      const message = "the server's authorization server cannot be reached";
      return this.#end(ctx, {
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
    const session = queryParameter(ctx, "session");
    const code = queryParameter(ctx, "confirmed");
    const agreed = queryParameter(ctx, "agreed");
    if (!code) return ctx.redirect(this.#confirmation.ask(ctx, wanted, { session, agreed }));
    const confirmed = await this.#confirmation.redeem(ctx, code, person, wanted);
    if (!confirmed) {
      return this.#reject(ctx, 403, "not_confirmed", {
        happened: "The confirmation is for another browser, has already been used, or has expired.",
        remedy: "Go back to where you started and connect again.",
      });
    }
    const { shown } = confirmed;
    const begun = await this.#deps.upstreamOAuth.begin({
      userId: person.userId,
      route,
      returnTo,
      popup,
      shown,
    });
    // The authorization server or the scopes differ from those that the user has seen: show the page again.
    if (!begun.ok && begun.notice)
      return ctx.redirect(this.#confirmation.ask(ctx, wanted, { session, show: true }));
    if (!begun.ok) {
      const { oauthError, message, code: reason, answer } = begun;
      const error = { code: oauthError, message, reason, answer };
      return this.#end(ctx, { routeId: route.id, returnTo, popup, error });
    }
    stateCookie.set(ctx, begun.state, table.config.upstreamOAuth.pendingTtl);
    ctx.redirect(begun.location);
  }

  /**
   * The redirect URI of the upstream's consent. What a response must fulfill, and the token request:
   * `upstream-oauth/authorization-callback.ts`.
   */
  async #callback(ctx: Context): Promise<void> {
    hideUrl(ctx);
    const params = new URLSearchParams(ctx.querystring);
    const person = await this.#deps.signIn.person(ctx);
    if (!person) {
      return this.#reject(ctx, 403, "signed_out", {
        happened: "You have been signed out in the meantime.",
        remedy: "Go back to where you started and connect again.",
      });
    }
    const state = params.get("state") ?? "";
    const finished = await this.#deps.upstreamOAuth.finish({
      params,
      callback: `${this.#originOf(ctx)}${ctx.path}`,
      host: this.#hostOf(ctx),
      userId: person.userId,
      browserState: stateCookie.get(ctx, state),
    });
    if (finished.ok) {
      stateCookie.clear(ctx, state);
      if (finished.again) {
        stateCookie.set(ctx, finished.again.state, this.#deps.routes().config.upstreamOAuth.pendingTtl);
        return ctx.redirect(finished.again.location);
      }
      return this.#end(ctx, finished);
    }
    const { returnTo, popup = false, routeId, oauthError, message, answer } = finished;
    if (returnTo) {
      stateCookie.clear(ctx, state);
      return this.#end(ctx, {
        routeId,
        returnTo,
        popup,
        error: { code: oauthError, message, reason: finished.code, answer },
      });
    }
    return this.#reject(ctx, 400, finished.code, {
      happened: `The connection was not created: ${message}.`,
      remedy: "Go back to where you started and connect again.",
    });
  }

  #originOf(ctx: Context): string {
    return this.#deps.routes().originOf(ctx.host) ?? `https://${ctx.host}`;
  }

  #hostOf(ctx: Context): string {
    return new URL(this.#originOf(ctx)).host;
  }

  /** The user of the browser; undefined if the response redirects to sign-in first. */
  async #personFor(ctx: Context): Promise<BrowserSession | undefined> {
    const person = await this.#deps.signIn.person(ctx);
    const session = queryParameter(ctx, "session");
    const fits = (who: BrowserSession) =>
      !session || [who.sessionName, who.parentSessionName].includes(session);
    if (person && fits(person)) return person;
    if (person && queryParameter(ctx, "again") === "1") {
      this.#reject(ctx, 403, "other_session", {
        happened: "This browser is signed in as a different user than the one who requested this connection.",
        remedy: "Sign out, then start again from the application.",
      });
      return undefined;
    }
    // The hand-over returns here; `again` stops a loop if it brings the same session.
    const query = new URLSearchParams(ctx.querystring);
    if (person) query.set("again", "1");
    ctx.redirect(await this.#deps.signIn.begin(ctx, `${ctx.path}?${query}`));
    return undefined;
  }

  #end(ctx: Context, ending: Ending): void {
    const route = this.#deps.routes().byId(ending.routeId ?? "");
    // The opener of a pop-up expects its message from the server's origin.
    if (!ending.popup || !route || route.host === this.#hostOf(ctx)) {
      this.#finish(ctx, ending);
      return;
    }
    const query = connectQuery(ending);
    query.set("ended", "1");
    if (ending.error) query.set("connect_error", ending.error.code);
    ctx.redirect(`${route.origin}${this.#prefix}/mcp/connect?${query}`);
  }

  /** Ends a pop-up that has connected on the issuer's host. The link is untrusted and only affects the message. */
  #endHere(ctx: Context, ending: Ending): void {
    const code = queryParameter(ctx, "connect_error");
    const error =
      code === undefined
        ? undefined
        : {
            code: /^[\w.:-]{1,64}$/.test(code) ? code : "server_error",
            message: failureInWords(code).replace(/\.$/, ""),
          };
    this.#finish(ctx, { ...ending, error });
  }

  #finish(ctx: Context, { routeId, returnTo, popup, error }: Ending): void {
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
    const server = this.#deps.routes().byId(routeId ?? "")?.name ?? "The server";
    const page = popupDonePage({
      openerOrigin: url.origin,
      returnTo: url.href,
      message: { type: "mcp_connect", route: routeId, connected: !error, error: error?.code },
      title: error ? "Not connected" : "Connected",
      text: error
        ? `${server} was not connected: ${error.message}.`
        : `${server} is connected. You can close this window.`,
      script: `${this.#prefix}/mcp/connect/done.js`,
    });
    sendPage(ctx, 200, page);
    const policy = ctx.response.get("content-security-policy");
    ctx.set(
      "content-security-policy",
      `${policy}; script-src ${this.#originOf(ctx)}${this.#prefix}/mcp/connect/done.js`,
    );
    // The page needs access to its opener.
    ctx.remove("cross-origin-opener-policy");
  }

  #reject(ctx: Context, status: number, code: string, words: { happened: string; remedy: string }): void {
    const id = requestId(ctx.req);
    this.#deps.logger.info({ requestId: id, reason: code, host: ctx.host }, "connection not created");
    sendPage(ctx, status, errorPage({ title: "Not connected", ...words, code, requestId: id }));
  }
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
/** Public, for scripts of all sites; 404 without a document. */
function publish(ctx: Context, maxAgeSeconds: number, document: object | undefined): void {
  ctx.set({ "access-control-allow-origin": "*", "x-content-type-options": "nosniff" });
  if (document) ctx.set("cache-control", `public, max-age=${maxAgeSeconds}`);
  else ctx.status = 404;
  ctx.body = document ?? { error: "not_found", error_description: "No server on this host uses discovery." };
}
