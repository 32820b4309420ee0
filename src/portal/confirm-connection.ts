import { randomBytes } from "node:crypto";
import Router from "@koa/router";
import type { Context, Middleware } from "koa";
import { askedAt, pathBelow } from "../config/endpoint.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
import { connectOrigin } from "../config/upstream-callback.ts";
import type { Route } from "../model/route.ts";
import { confirmConnectionPage } from "../pages/confirm-connection-page.ts";
import { errorPage } from "../pages/error-page.ts";
import { readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { browserBinding } from "../sign-in/sessions.ts";
import type { Person, SignIn } from "../sign-in/sign-in.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { BeginConsent, UpstreamOAuth } from "../upstream-oauth/upstream-oauth.ts";
import type { UpstreamTokens } from "../upstream-tokens/upstream-tokens.ts";
import { isAllowedReturn } from "./connect-target.ts";

/** Which connection is asked for. */
export interface ConnectionWish {
  readonly route: Route;
  readonly returnTo: string;
  readonly popup: boolean;
}
/** What the one-time code stands for. */
interface Confirmed {
  readonly routeId: string;
  /** `Route.askedPath` */
  readonly path?: string;
  readonly returnTo: string;
  readonly popup: boolean;
  /** Name of the person's session on the issuer's host. */
  readonly session: string;
  /** Name of the binding cookie that the route's host set before the browser left. */
  readonly browser: string;
  /** Where the way leads, and what for, as the page said. */
  readonly shown?: BeginConsent["shown"];
}
interface ConfirmDeps {
  readonly routes: CurrentRoutes;
  readonly store: Pick<Store, "pendingAuthorizations">;
  readonly signIn: Pick<SignIn, "person" | "begin" | "csrfToken" | "csrfMatches">;
  readonly upstreamOAuth: Pick<UpstreamOAuth, "notice">;
  readonly upstreamTokens: Pick<UpstreamTokens, "connectionState">;
  readonly logger: Logger;
  readonly mayReach?: (person: Person, route: Route) => boolean;
}

interface Asked {
  readonly person: Person;
  readonly wish: ConnectionWish;
  readonly browser: string;
  /** The person began on the issuer's host, with the session they have there now. */
  readonly began: boolean;
}

const codeMs = 60_000;

/**
 * "Connect NAME as PERSON?", asked on the issuer's host before the browser leaves for an upstream. Who the person is, that host
 * alone can say: no application is there to plant a session, as one could on the route's host, and none to press the button. Flows
 * that the person began on the issuer's host, signed in with the session they name, are not asked again, unless the page has to say
 * where the browser goes next: an authorization server of another site, or scopes beyond the usual.
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
    const { person, wish, began } = asked;
    const { state } = await upstreamTokens.connectionState(person.userId, wish.route);
    const mayReach = deps.mayReach?.(person, wish.route) ?? true;
    // What needs no consent, or is not allowed, the route's host says by itself.
    if (!mayReach || state !== "missing") return confirm(ctx, asked);
    if (began && one(ctx, "show") !== "1") return confirm(ctx, asked);
    const csrf = signIn.csrfToken(ctx);
    if (!csrf) return refuse(ctx, 403, "signed_out");
    const { route, returnTo, popup } = wish;
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
    // The last page of a pop-up must be able to see the window that opened it.
    if (popup) ctx.remove("cross-origin-opener-policy");
  });

  router.post(path, issuerOnly, async (ctx) => {
    const form = await readForm(ctx);
    const asked = await read(ctx);
    if (!asked) return;
    if (!signIn.csrfMatches(ctx, form.get("csrf"))) return refuse(ctx, 403, "csrf");
    if (form.get("decision") === "allow") {
      const scopes = (form.get("scope") ?? "").split(" ").filter(Boolean);
      return confirm(ctx, asked, { server: form.get("server") ?? "", scopes });
    }
    seeOther(ctx, connectUrl(asked.wish, { declined: "1" }));
  });

  /** Who asks for what; undefined when the answer has been given. */
  async function read(ctx: Context): Promise<Asked | undefined> {
    ctx.set({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
    const table = routes();
    const plain = table.byId(one(ctx, "route") ?? "");
    const route = plain && askedAt(plain, pathBelow(plain, plain.resource + (one(ctx, "path") ?? "")));
    const returnTo = one(ctx, "redirect_url");
    const browser = one(ctx, "browser");
    const known = route?.enabled && route.mcp.kind === "server";
    if (
      !known ||
      !returnTo ||
      !isAllowedReturn(table, route.origin, returnTo) ||
      !/^[\w-]{43}$/.test(browser ?? "")
    ) {
      refuse(ctx, 400, "invalid_request");
      return undefined;
    }
    const person = await signIn.person(ctx);
    if (!person) {
      seeOther(ctx, await signIn.begin(ctx, ctx.path + ctx.search));
      return undefined;
    }
    const wish: ConnectionWish = { route, returnTo, popup: one(ctx, "popup") === "1" };
    return { person, wish, browser: browser ?? "", began: one(ctx, "session") === person.sessionName };
  }

  async function confirm(
    ctx: Context,
    { person, wish, browser }: Asked,
    shown?: BeginConsent["shown"],
  ): Promise<void> {
    const code = randomBytes(32).toString("base64url");
    const payload: Confirmed = {
      routeId: wish.route.id,
      path: wish.route.askedPath,
      returnTo: wish.returnTo,
      popup: wish.popup,
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
    seeOther(ctx, connectUrl(wish, { session: person.sessionName, confirmed: code }));
  }

  function connectUrl({ route, returnTo, popup }: ConnectionWish, more: Record<string, string>): string {
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

  function refuse(ctx: Context, status: number, code: string): void {
    const id = requestId(ctx.req);
    logger.info({ requestId: id, reason: code, host: ctx.host }, "a connection was not made");
    const page = errorPage({
      title: "Not connected",
      happened: "The request did not come from our own page in this browser, or is too old.",
      remedy: "Go back to where you started and connect again.",
      code,
      requestId: id,
    });
    sendPage(ctx, status, page);
  }

  return {
    router,
    /**
     * On the route's host: where the browser is asked, or let pass because it began on the issuer's host.
     *
     * @param options.session name of the issuer-host session that began the flow, where one did
     * @param options.show the page is shown in any case
     */
    ask(
      ctx: Context,
      { route, returnTo, popup }: ConnectionWish,
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
     * On the route's host: what was confirmed by this code, which is used up by this; undefined unless it was this wish of this
     * person in this browser.
     */
    async redeem(
      ctx: Context,
      code: string,
      person: Person,
      wish: ConnectionWish,
    ): Promise<Pick<Confirmed, "shown"> | undefined> {
      const pending = await store.pendingAuthorizations.consume<Confirmed>("connect", code);
      if (!pending) return undefined;
      const { routeId, path, returnTo, popup, session, browser, shown } = pending.payload;
      const fits =
        pending.userId === person.userId &&
        [person.sessionName, person.parentSessionName].includes(session) &&
        browserBinding.matches(ctx, browser) &&
        routeId === wish.route.id &&
        path === wish.route.askedPath &&
        returnTo === wish.returnTo &&
        popup === wish.popup;
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
/** A query parameter that was given once. */
function one(ctx: Context, name: string): string | undefined {
  const value = ctx.query[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}
