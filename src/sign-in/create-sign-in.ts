import Router from "@koa/router";
import type { Context } from "koa";
import { hideUrl } from "../server/http/request.ts";
import { createSignInFlow } from "./authorization-flow.ts";
import { createHandover, returnPath } from "./host-handover.ts";
import { createOpenidClients } from "./providers.ts";
import { createRecheck } from "./recheck.ts";
import { createBrowserSessions } from "./sessions.ts";
import type { SignIn, SignInDeps } from "./sign-in.ts";
import { createBackChannelLogout, createSignOut } from "./sign-out.ts";

/** Builds sign-in. Its paths use `paths.prefix` at startup; a new prefix requires a restart. */
export function createSignIn(deps: SignInDeps): SignIn {
  const { routes, fetch, logger } = deps;
  const clients = createOpenidClients(fetch);
  const sessions = createBrowserSessions(deps, (userId) => {
    // Not awaited: this request uses what is valid in the old record, later ones the provider's answer.
    recheck(userId).catch((error: unknown) =>
      logger.warn({ err: error, userId }, "rechecking an old sign-in record failed"),
    );
  });
  const handover = createHandover(deps, sessions, begin);
  const flow = createSignInFlow(deps, clients, sessions, handover);
  const signOut = createSignOut(deps, clients, sessions);
  const backChannelLogout = createBackChannelLogout(deps, clients, sessions);
  const { recheck, refreshTokens, onPersonRejected } = createRecheck(deps, clients, sessions);
  const prefix = routes().config.paths.prefix;
  const onIssuer = (ctx: Context) => ctx.host === new URL(routes().config.issuer).host;

  async function begin(ctx: Context, returnTo: string): Promise<string> {
    const path = returnPath(returnTo);
    if (!path) throw new RangeError("the return path must be a path on this host");
    if (!onIssuer(ctx)) return handover.leave(ctx, path);
    return `${prefix}/sign_in?${new URLSearchParams({ return_to: path })}`;
  }

  const router = new Router();
  router.get(`${prefix}/sign_in`, async (ctx) => {
    ctx.set("cache-control", "no-store");
    if (onIssuer(ctx)) return flow.start(ctx);
    const wanted = ctx.query.return_to;
    ctx.redirect(handover.leave(ctx, (typeof wanted === "string" && returnPath(wanted)) || "/"));
  });
  // One per provider; the path without an id is for a single provider.
  router.get([`${prefix}/sign_in/callback`, `${prefix}/sign_in/callback/:provider`], (ctx, next) =>
    onIssuer(ctx) ? noStore(ctx, flow.finish) : next(),
  );
  router.get(`${prefix}/sign_in/handover`, (ctx, next) =>
    onIssuer(ctx) ? noStore(ctx, handover.issue) : next(),
  );
  router.get(`${prefix}/sign_in/complete`, (ctx) => noStore(ctx, handover.redeem));
  router.post(`${prefix}/sign_in/complete`, (ctx) => noStore(ctx, handover.switchPerson));
  router.post(`${prefix}/sign_in/back_channel_logout`, (ctx, next) =>
    onIssuer(ctx) ? backChannelLogout(ctx) : next(),
  );
  router.get(`${prefix}/sign_out`, (ctx) => signOut.ask(ctx));
  router.post(`${prefix}/sign_out`, (ctx) => signOut.end(ctx));

  return {
    router,
    person: sessions.person,
    sessionFromCookieHeader: sessions.fromCookieHeader,
    begin,
    recheck,
    refreshTokens,
    onPersonRejected,
    async recheckOwners() {
      for await (const owners of deps.store.delegations.owners())
        for (const owner of owners) await recheck(owner);
    },
    csrfToken: sessions.csrfToken,
    csrfMatches: sessions.csrfMatches,
    close: sessions.close,
  };
}

function noStore(ctx: Context, step: (ctx: Context) => Promise<void>): Promise<void> {
  hideUrl(ctx);
  return step(ctx);
}
