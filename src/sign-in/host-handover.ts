import { randomBytes } from "node:crypto";
import type { Context } from "koa";
import { errorPage } from "../pages/error-page.ts";
import { switchPersonPage } from "../pages/sign-in-pages.ts";
import { readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import { browserBinding, type Sessions } from "./sessions.ts";
import type { BrowserSession, SignInDeps } from "./sign-in.ts";

/**
 * Checks that `value` is a path (with query) on this host, so that a sign-in never ends on another site: one leading slash, no
 * backslash, no control characters, nothing that a browser would read as another origin.
 */
export function returnPath(value: string | null | undefined): string | undefined {
  if (!value || value.length > 4096 || !value.startsWith("/") || value.startsWith("//")) return undefined;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: browsers drop tabs and newlines inside URLs
  if (/[\\\u0000-\u0020\u007f]/.test(value)) return undefined;
  const here = "https://this.invalid";
  const url = URL.parse(value, here);
  if (url?.origin !== here || url.username || url.password || url.pathname.startsWith("//")) return undefined;
  return url.pathname + url.search;
}

/** The content of a one-time code: a session for this host. */
interface PendingHandover {
  readonly host: string;
  readonly returnTo: string;
  /** Name of the binding cookie that the host has set. */
  readonly browser: string;
  /** The session on the issuer's host that it derives from; absent for a session on the issuer's host itself. */
  readonly parentName?: string;
  /** Unix ms. */
  readonly expiresAt: number;
}

/** A redeemed code. */
export type Taken = PendingHandover & { readonly userId: string };

const codeMs = 60_000;
/** Time for the user to read the page. */
const switchMs = 5 * 60_000;

/** Derives a session on a route's host from the issuer's host, with a single-use code that is valid for 60 s in one browser. */
export function createHandover(
  deps: SignInDeps,
  sessions: Sessions,
  begin: (ctx: Context, returnTo: string) => Promise<string>,
) {
  const { routes, store, logger, metrics } = deps;
  const prefix = () => routes().config.paths.prefix;

  /** On the route's host: the URL to get a code from. */
  function leave(ctx: Context, returnTo: string): string {
    const browser = browserBinding.set(ctx);
    const query = new URLSearchParams({ host: ctx.host, return_to: returnTo, browser });
    return `${routes().config.issuer}${prefix()}/sign_in/handover?${query}`;
  }

  /** On the issuer's host: issues the code, after a sign-in if necessary. */
  async function issue(ctx: Context): Promise<void> {
    const { host, return_to, browser } = ctx.query;
    const route = routes().config.routes.find((candidate) => candidate.host === host);
    const returnTo = typeof return_to === "string" ? returnPath(return_to) : undefined;
    if (!route || !returnTo || typeof browser !== "string" || !/^[\w-]{43}$/.test(browser)) {
      return reject(ctx, "handover_invalid");
    }
    const person = await sessions.person(ctx);
    if (!person) return ctx.redirect(await begin(ctx, ctx.path + ctx.search));
    const state = randomBytes(32).toString("base64url");
    const payload: PendingHandover = {
      host: route.host,
      returnTo,
      browser,
      parentName: person.sessionName,
      expiresAt: person.sessionExpiresAt * 1000,
    };
    const expiresAt = new Date(Date.now() + codeMs);
    const dropped = await store.pendingAuthorizations.create(
      { kind: "handover", state, userId: person.userId, expiresAt, payload },
      routes().config.limits.pendingAuthorizationsPerUser,
    );
    if (dropped > 0) metrics?.limitsReached.inc({ limit: "pending_authorizations_per_user" }, dropped);
    ctx.redirect(`${route.origin}${prefix()}/sign_in/complete?${new URLSearchParams({ code: state })}`);
  }

  /** On the route's host: redeems a code. A failed attempt consumes it as well. */
  async function redeem(ctx: Context): Promise<void> {
    const pending = await take(ctx, ctx.query.code);
    if (!pending) return;
    // Switching accounts ends derived sessions. A live session of another user means that it or this link was planted.
    const before = await sessions.person(ctx);
    if (before && before.userId !== pending.userId) return askToSwitch(ctx, pending, before);
    await enter(ctx, pending);
  }

  /** Handles the submitted form of the page that asks before another user is signed in. */
  async function switchPerson(ctx: Context): Promise<void> {
    const form = await readForm(ctx);
    if (!sessions.csrfMatches(ctx, form.get("csrf"))) return reject(ctx, "csrf");
    const pending = await take(ctx, form.get("code") ?? undefined);
    if (pending) await enter(ctx, pending);
  }

  /** Consumes a code for this host and browser; undefined if it is invalid and the request has been answered. */
  async function take(ctx: Context, code: string | string[] | undefined): Promise<Taken | undefined> {
    const pending =
      typeof code === "string"
        ? await store.pendingAuthorizations.consume<PendingHandover>("handover", code)
        : undefined;
    const { userId, payload } = pending ?? {};
    const fault =
      !userId || !payload
        ? "handover_unknown"
        : payload.host !== ctx.host
          ? "handover_wrong_host"
          : !browserBinding.matches(ctx, payload.browser)
            ? "handover_wrong_browser"
            : payload.parentName !== undefined && !(await store.browserSessions.isLive(payload.parentName))
              ? "handover_signed_out"
              : undefined;
    if (!userId || !payload || fault) {
      reject(ctx, fault ?? "handover_unknown");
      return undefined;
    }
    return { ...payload, userId };
  }

  async function enter(ctx: Context, { userId, parentName, expiresAt, returnTo }: Taken): Promise<void> {
    if (parentName === undefined) await sessions.end(ctx);
    await sessions.start(ctx, { userId, parentName, expiresAt: new Date(expiresAt) });
    ctx.status = ctx.method === "POST" ? 303 : 302;
    ctx.redirect(returnTo);
  }

  /** Asks before another user replaces the one who is signed in. */
  async function askToSwitch(
    ctx: Context,
    { userId, ...payload }: Taken,
    before: BrowserSession,
  ): Promise<void> {
    const csrf = sessions.csrfToken(ctx);
    if (!csrf) return reject(ctx, "handover_other_person");
    const code = randomBytes(32).toString("base64url");
    await store.pendingAuthorizations.create(
      { kind: "handover", state: code, userId, expiresAt: new Date(Date.now() + switchMs), payload },
      routes().config.limits.pendingAuthorizationsPerUser,
    );
    const next = await store.signInSessions.find(userId);
    const page = switchPersonPage({
      host: ctx.host,
      before: before.email ?? before.name ?? before.userId,
      person: next?.email ?? next?.name ?? userId,
      action: `${prefix()}/sign_in/complete`,
      csrf,
      code,
    });
    sendPage(ctx, 200, page);
  }

  function reject(ctx: Context, code: string): void {
    logger.info({ code, requestId: requestId(ctx.req) }, "session handover rejected");
    const page = errorPage({
      title: "Sign-in failed",
      happened: "This sign-in link is for another browser, has already been used, or has expired.",
      remedy: "Go back to the page you wanted to see and reload it.",
      code,
      requestId: requestId(ctx.req),
    });
    sendPage(ctx, 400, page);
  }

  return { leave, issue, redeem, askToSwitch, switchPerson };
}
