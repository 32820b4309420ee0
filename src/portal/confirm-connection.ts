import { createHash, randomBytes } from "node:crypto";
import Router from "@koa/router";
import type { Context, Middleware } from "koa";
import { callbackHost, connectOrigin } from "../config/callback-urls.ts";
import { ownCookieName } from "../config/cookies.ts";
import { askedAt, pathBelow } from "../config/paths.ts";
import type { CurrentRoutes, RouteTable } from "../config/route-table.ts";
import type { Route } from "../model/route.ts";
import { confirmConnectionPage } from "../pages/confirm-connection-page.ts";
import { errorPage } from "../pages/error-page.ts";
import { hideUrl, queryParameter, readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { browserBinding } from "../sign-in/sessions.ts";
import type { BrowserSession, SignIn } from "../sign-in/sign-in.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { BeginConsent, UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";

/**
 * The route to connect: named by id or URL in `wanted`, else the host's only MCP server, else the one at its root. On the issuer's
 * host, also a named route that is connected there because an application shares its host.
 *
 * @param path the client's MCP endpoint below the route's URL; a URL in `wanted` may also contain it
 * @returns the route narrowed to that endpoint; undefined if no route on this host matches.
 */
export function routeToConnect(
  table: RouteTable,
  host: string,
  wanted: string | undefined,
  path?: string,
): Route | undefined {
  const route = named(table, host, wanted);
  return route && askedAt(route, pathBelow(route, path ? route.resource + path : (wanted ?? "")));
}

function named(table: RouteTable, host: string, wanted: string | undefined): Route | undefined {
  const servers = table.config.routes.filter((route) => route.enabled && route.mcp.kind === "server");
  if (wanted) {
    const named = table.byId(wanted) ?? table.byResource(wanted);
    const isHere = (route: Route) => route.host === host || callbackHost(table.config, route) === host;
    return servers.find((route) => route.id === named?.id && isHere(route));
  }
  const own = servers.filter((route) => route.host === host);
  return own.length === 1 ? own[0] : own.find((route) => route.prefix === "/");
}

/**
 * Whether `/mcp/connect` may return a browser to a URL: on a client route's origin or this origin, the portal, or an interaction of our
 * authorization server. Anything else would make us an open redirector.
 *
 * @param origin of this host
 */
export function isAllowedReturn(table: RouteTable, origin: string, target: string): boolean {
  const url = URL.parse(target);
  // `blob:https://host/...` also has an origin, and its content comes from a script.
  if (url === null || !/^https?:$/.test(url.protocol) || url.username || url.password) return false;
  const portal = `${table.config.paths.prefix}/routes`;
  const { pathname } = url;
  if (url.origin === new URL(table.config.issuer).origin)
    if (pathname === portal || pathname.startsWith("/oauth/interaction/")) return true;
  if (url.origin === origin) return true;
  return table.config.routes.some(
    (route) => route.mcp.kind === "client" && route.enabled && route.origin === url.origin,
  );
}

/** One cookie per `state`, so that several authorization flows in one browser do not interfere. */
const nameOf = (ctx: Context, state: string) =>
  ownCookieName(`consent_${createHash("sha256").update(state).digest("base64url").slice(0, 16)}`, ctx.secure);
/** Unsigned: the value is a secret, and a signature would be a second cookie to clear. */
const attributes = ({ secure }: Context) =>
  ({ path: "/", secure, httpOnly: true, sameSite: "lax", overwrite: true, signed: false }) as const;

/** Binds an authorization flow to the browser that started it. */
export const stateCookie = {
  /** @param ttl seconds */
  set(ctx: Context, state: string, ttl: number): void {
    ctx.cookies.set(nameOf(ctx, state), state, { ...attributes(ctx), maxAge: ttl * 1000 });
  },
  get(ctx: Context, state: string): string | undefined {
    return state ? ctx.cookies.get(nameOf(ctx, state), { signed: false }) : undefined;
  },
  clear(ctx: Context, state: string): void {
    ctx.cookies.set(nameOf(ctx, state), null, attributes(ctx));
  },
};

/** A requested connection. */
export interface ConnectionRequest {
  readonly route: Route;
  readonly returnTo: string;
  readonly popup: boolean;
}
/** The content of a one-time code. */
interface Confirmed {
  readonly routeId: string;
  /** `Route.askedPath` */
  readonly path?: string;
  readonly returnTo: string;
  readonly popup: boolean;
  /** Name of the user's session on the issuer's host. */
  readonly session: string;
  /** Name of the binding cookie that the route's host has set. */
  readonly browser: string;
  /** The authorization server and scopes that the page showed. */
  readonly shown?: BeginConsent["shown"];
}
interface ConfirmDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<Store, "pendingAuthorizations">;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches">;
  readonly upstreamOAuth: Pick<UpstreamOAuth, "notice">;
  readonly upstreamTokens: Pick<UpstreamTokens, "connectionState">;
  readonly logger: Logger;
  readonly mayReach?: (person: BrowserSession, route: Route) => boolean;
}

interface Asked {
  readonly person: BrowserSession;
  readonly wanted: ConnectionRequest;
  readonly browser: string;
  /** Whether the user started on the issuer's host, in the current session. */
  readonly startedHere: boolean;
}

const codeMs = 60_000;

/**
 * "Connect NAME as USER?", asked on the issuer's host before the browser goes to an upstream. Only that host can identify the user: no
 * application runs there that could plant a session or press the button, as on the route's host. Flows that started on the issuer's
 * host in the current session are not confirmed again, unless the page has to show an authorization server of another site or
 * unusual scopes.
 */
export function createConfirmConnection(deps: ConfirmDeps) {
  const { routes, store, signIn, upstreamOAuth, upstreamTokens, logger } = deps;
  const path = `${routes().config.paths.prefix}/mcp/connect/confirm`;
  const router = new Router();
  const issuerOnly: Middleware = (ctx, next) =>
    ctx.host === new URL(routes().config.issuer).host ? next() : undefined;

  router.get(path, issuerOnly, async (ctx) => {
    const asked = await read(ctx);
    if (!asked) return;
    const { person, wanted, startedHere } = asked;
    const { state } = await upstreamTokens.connectionState(person.userId, wanted.route);
    const mayReach = deps.mayReach?.(person, wanted.route) ?? true;
    // The route's host handles what needs no consent or is not allowed.
    if (!mayReach || state !== "missing") return confirm(ctx, asked);
    if (startedHere && queryParameter(ctx, "show") !== "1") return confirm(ctx, asked);
    const csrf = signIn.csrfToken(ctx);
    if (!csrf) return reject(ctx, 403, "signed_out");
    const { route, returnTo, popup } = wanted;
    const notice = await upstreamOAuth.notice(person.userId, route);
    const here = ctx.path + ctx.search;
    const page = confirmConnectionPage({
      route,
      person: person.email ?? person.name ?? person.userId,
      upstream: notice ?? { server: new URL(route.upstream).host, foreign: false, scopes: [], added: [] },
      returnHost: new URL(returnTo).host,
      action: here,
      csrf,
      switchAccount: `${routes().config.paths.prefix}/sign_in?${new URLSearchParams({ switch: "1", return_to: here })}`,
    });
    sendPage(ctx, 200, page, route.logoUrl ? [route.logoUrl] : []);
    // The last page of a pop-up needs access to its opener.
    if (popup) ctx.remove("cross-origin-opener-policy");
  });

  router.post(path, issuerOnly, async (ctx) => {
    const form = await readForm(ctx);
    const asked = await read(ctx);
    if (!asked) return;
    if (!signIn.csrfMatches(ctx, form.get("csrf"))) return reject(ctx, 403, "csrf");
    if (form.get("decision") === "allow") {
      const scopes = (form.get("scope") ?? "").split(" ").filter(Boolean);
      return confirm(ctx, asked, { server: form.get("server") ?? "", scopes });
    }
    seeOther(ctx, connectUrl(asked.wanted, { declined: "1" }));
  });

  /** The user and the requested connection; undefined if the request has been answered. */
  async function read(ctx: Context): Promise<Asked | undefined> {
    hideUrl(ctx);
    const table = routes();
    const plain = table.byId(queryParameter(ctx, "route") ?? "");
    const route =
      plain && askedAt(plain, pathBelow(plain, plain.resource + (queryParameter(ctx, "path") ?? "")));
    const returnTo = queryParameter(ctx, "redirect_url");
    const browser = queryParameter(ctx, "browser");
    const known = route?.enabled && route.mcp.kind === "server";
    if (
      !known ||
      !returnTo ||
      !isAllowedReturn(table, route.origin, returnTo) ||
      !/^[\w-]{43}$/.test(browser ?? "")
    ) {
      reject(ctx, 400, "invalid_request");
      return undefined;
    }
    const person = await signIn.person(ctx);
    if (!person) {
      seeOther(ctx, await signIn.begin(ctx, ctx.path + ctx.search));
      return undefined;
    }
    const wanted: ConnectionRequest = { route, returnTo, popup: queryParameter(ctx, "popup") === "1" };
    return {
      person,
      wanted,
      browser: browser ?? "",
      startedHere: queryParameter(ctx, "session") === person.sessionName,
    };
  }

  async function confirm(
    ctx: Context,
    { person, wanted, browser }: Asked,
    shown?: BeginConsent["shown"],
  ): Promise<void> {
    const code = randomBytes(32).toString("base64url");
    const payload: Confirmed = {
      routeId: wanted.route.id,
      path: wanted.route.askedPath,
      returnTo: wanted.returnTo,
      popup: wanted.popup,
      session: person.sessionName,
      browser,
      shown,
    };
    await store.pendingAuthorizations.create(
      {
        kind: "connect",
        state: code,
        userId: person.userId,
        expiresAt: new Date(Date.now() + codeMs),
        payload,
      },
      routes().config.limits.pendingAuthorizationsPerUser,
    );
    seeOther(ctx, connectUrl(wanted, { session: person.sessionName, confirmed: code }));
  }

  function connectUrl({ route, returnTo, popup }: ConnectionRequest, more: Record<string, string>): string {
    const query = new URLSearchParams({
      route: route.id,
      ...pathOf(route),
      redirect_url: returnTo,
      ...(popup ? { popup: "1" } : {}),
      ...more,
    });
    const { config } = routes();
    return `${connectOrigin(config, route)}${config.paths.prefix}/mcp/connect?${query}`;
  }

  function reject(ctx: Context, status: number, code: string): void {
    const id = requestId(ctx.req);
    logger.info({ requestId: id, reason: code, host: ctx.host }, "connection not created");
    const page = errorPage({
      title: "Not connected",
      happened: "The request was not sent from this gateway's page in this browser, or has expired.",
      remedy: "Go back to where you started and connect again.",
      code,
      requestId: id,
    });
    sendPage(ctx, status, page);
  }

  return {
    router,
    /**
     * On the route's host: the URL of the confirmation page.
     *
     * @param options.session name of the session on the issuer's host that started the flow, if one did
     * @param options.show always shows the page
     */
    ask(
      ctx: Context,
      { route, returnTo, popup }: ConnectionRequest,
      { session, show = false }: { readonly session?: string; readonly show?: boolean },
    ): string {
      const query = new URLSearchParams({
        route: route.id,
        ...pathOf(route),
        redirect_url: returnTo,
        ...(popup ? { popup: "1" } : {}),
        ...(session ? { session } : {}),
        ...(show ? { show: "1" } : {}),
        browser: browserBinding.set(ctx),
      });
      return `${routes().config.issuer}${path}?${query}`;
    },
    /**
     * On the route's host: consumes a code and returns what it confirms; undefined unless the code is for this user, connection and
     * browser.
     */
    async redeem(
      ctx: Context,
      code: string,
      person: BrowserSession,
      wanted: ConnectionRequest,
    ): Promise<Pick<Confirmed, "shown"> | undefined> {
      const pending = await store.pendingAuthorizations.consume<Confirmed>("connect", code);
      if (!pending) return undefined;
      const { routeId, path, returnTo, popup, session, browser, shown } = pending.payload;
      const fits =
        pending.userId === person.userId &&
        [person.sessionName, person.parentSessionName].includes(session) &&
        browserBinding.matches(ctx, browser) &&
        routeId === wanted.route.id &&
        path === wanted.route.askedPath &&
        returnTo === wanted.returnTo &&
        popup === wanted.popup;
      return fits ? { shown } : undefined;
    },
  };
}

function pathOf({ askedPath }: Route): { readonly path?: string } {
  return askedPath === undefined ? {} : { path: askedPath };
}

function seeOther(ctx: Context, location: string): void {
  ctx.status = 303;
  ctx.redirect(location);
}
