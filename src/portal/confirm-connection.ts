import { randomBytes } from "node:crypto";
import Router from "@koa/router";
import type { Context, Middleware } from "koa";
import { connectOrigin } from "../config/callback-urls.ts";
import { askedAt, pathBelow } from "../config/paths.ts";
import type { CurrentRoutes } from "../config/route-table.ts";
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
import { type ConnectionRequest, isAllowedReturn, pathOf } from "./connection-request.ts";

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
/** What a user has agreed to on the page of a consent link; the confirmation page is then not shown. */
export interface Agreed {
  readonly routeId: string;
  /** `Route.askedPath` */
  readonly path?: string;
  readonly returnTo: string;
  /** Name of the user's session on the issuer's host. */
  readonly session: string;
  /** The authorization server and scopes that the page showed. */
  readonly shown: BeginConsent["shown"];
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
    const agreed = startedHere ? await takeAgreed(ctx, asked) : undefined;
    if (agreed) return confirm(ctx, asked, agreed.shown);
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

  /** Consumes what the user has agreed to for this connection in this session, if anything. */
  async function takeAgreed(ctx: Context, { person, wanted }: Asked): Promise<Agreed | undefined> {
    const code = queryParameter(ctx, "agreed");
    const pending = code && (await store.pendingAuthorizations.consume<Agreed>("agreed", code));
    if (!pending || pending.userId !== person.userId) return undefined;
    const { routeId, path, returnTo, session } = pending.payload;
    const fits =
      session === person.sessionName &&
      routeId === wanted.route.id &&
      path === wanted.route.askedPath &&
      returnTo === wanted.returnTo;
    return fits ? pending.payload : undefined;
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
     * @param options.agreed code of what the user has agreed to on the page of a consent link
     * @param options.show always shows the page
     */
    ask(
      ctx: Context,
      { route, returnTo, popup }: ConnectionRequest,
      {
        session,
        agreed,
        show = false,
      }: { readonly session?: string; readonly agreed?: string; readonly show?: boolean },
    ): string {
      const query = new URLSearchParams({
        route: route.id,
        ...pathOf(route),
        redirect_url: returnTo,
        ...(popup ? { popup: "1" } : {}),
        ...(session ? { session } : {}),
        ...(agreed ? { agreed } : {}),
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

function seeOther(ctx: Context, location: string): void {
  ctx.status = 303;
  ctx.redirect(location);
}
