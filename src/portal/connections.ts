import Router from "@koa/router";
import type { Context, Middleware } from "koa";
import { membersOf } from "../config/aggregates.ts";
import { connectOrigin } from "../config/callback-urls.ts";
import { hasWithheldGroups } from "../config/claims.ts";
import { isBelowUpstream } from "../config/paths.ts";
import type { ReservedRoute } from "../config/reserved-routes.ts";
import { aggregateOf, consentAuth, needsPersonsConnection } from "../model/route.ts";
import { type ConnectionsPage, connectionsPage } from "../pages/connections-page.ts";
import { errorPage } from "../pages/error-page.ts";
import { readForm, requestId } from "../server/http/request.ts";
import { sendPage } from "../server/http/send-page.ts";
import type { BrowserSession } from "../sign-in/sign-in.ts";
import type { UpstreamToken } from "../store/upstream-tokens.ts";
import { failureInWords, readFailureCode } from "../upstream-oauth/failures.ts";
import { clientEntries } from "./client-entries.ts";
import { removeMember } from "./member-grants.ts";
import { type PortalDeps, reachableRoutes, serverStates } from "./server-states.ts";

/** The user's servers for the portal: those that policy allows, and those that are still connected although it no longer does. */
export async function connectionEntries(
  deps: Pick<PortalDeps, "routes" | "mayReach" | "store" | "upstreamTokens" | "endpointPath">,
  person: BrowserSession,
): Promise<ConnectionsPage["servers"]> {
  const states = await serverStates(deps, person.userId, reachableRoutes(deps, person));
  const tokens = await deps.store.upstreamTokens.listForUser(person.userId);
  const tokenFor = new Map(tokens.map((token) => [`${token.routeId} ${token.upstream}`, token]));
  const listed = states.map(({ route, url, state }) => {
    const token =
      tokenFor.get(`${route.id} ${route.upstream}`) ??
      tokens.find((one) => one.routeId === route.id && isBelowUpstream(route, one.upstream));
    const consented = consentAuth(route) !== undefined;
    return {
      id: route.id,
      name: route.name,
      description: route.description,
      logoUrl: route.logoUrl,
      url,
      // Users can only connect and disconnect what requires their consent.
      state: consented
        ? token && state === "missing"
          ? "connected"
          : state
        : state === "unavailable"
          ? state
          : ("not_needed" as const),
      ...(consented && token && timesOf(token)),
    };
  });
  const shown = new Map(listed.map((entry) => [entry.id, entry]));
  const remaining = tokens.flatMap((token): ConnectionsPage["servers"][number][] => {
    const route = deps.routes().byId(token.routeId);
    const reserved = deps.routes().reservedById(token.routeId);
    if (reserved) return [reservedEntry(reserved, token)];
    if (!route || shown.has(route.id) || route.upstream !== token.upstream) return [];
    const { id, name, description, logoUrl, resource: url } = route;
    return [{ id, name, description, logoUrl, url, state: "not_allowed", ...timesOf(token) }];
  });
  return [...listed.map((entry) => ({ ...entry, members: membersIn(deps, entry.id, shown) })), ...remaining];
}

/** A connection of a stored route that cannot be used now: its user can still disconnect it. */
function reservedEntry(
  { id, route, at }: ReservedRoute,
  token: UpstreamToken,
): ConnectionsPage["servers"][number] {
  const place = at === undefined ? "" : `https://${at.host}${at.prefix}`;
  const { name, description, resource: url } = route ?? { name: id, description: "", resource: place };
  return { id, name, description, url, state: "unavailable", ...timesOf(token) };
}

/** The members of an aggregated route that the user may use, with their states; undefined for other routes. */
function membersIn(
  { routes }: Pick<PortalDeps, "routes">,
  routeId: string,
  shown: ReadonlyMap<string, Pick<ConnectionsPage["servers"][number], "id" | "name" | "state">>,
): ConnectionsPage["servers"][number]["members"] {
  const route = routes().byId(routeId);
  if (!route || aggregateOf(route) === undefined) return undefined;
  return membersOf(routes().config, route).flatMap(({ route: { id } }) => shown.get(id) ?? []);
}

function timesOf({ connectedAt, lastUsedAt, refreshToken, expiresAt, refreshExpiresAt }: UpstreamToken) {
  // A token with a refresh token lasts as long as that.
  const ends = refreshToken ? refreshExpiresAt : expiresAt;
  return { connection: { connectedAt, lastUsedAt, ends } };
}

/** The service accounts that use, or request to use, the connections of an owner. */
export async function serviceAccountEntries(
  deps: Pick<PortalDeps, "routes" | "store">,
  ownerId: string,
): Promise<ConnectionsPage["serviceAccounts"]> {
  const { store } = deps;
  const delegations = await store.delegations.ofOwner(ownerId);
  if (delegations.length === 0) return [];
  const connections = await store.upstreamTokens.list({ userId: ownerId });
  return delegations.flatMap(({ grantId, account, routeId, upstream, delegatedAt, expiresAt }) => {
    const route = deps.routes().byId(routeId);
    if (!route || !needsPersonsConnection(route)) return [];
    // A delegation for a former upstream of the route does not count.
    const since = upstream === route.upstream ? delegatedAt : undefined;
    return {
      grantId,
      name: account.replace(/^service-account\//, ""),
      routeId,
      server: route.name,
      connected: connections.some((one) => one.routeId === routeId && one.upstream === route.upstream),
      delegatedAt: since,
      ends: expiresAt,
    };
  });
}

/**
 * The portal: one page on the issuer's host where users see and remove their connections and the applications that act for them.
 * Everything is a form; nothing requires JavaScript.
 */
export function createConnectionsRouter(deps: Omit<PortalDeps, "externalTokens" | "people">): Router {
  const { routes, signIn, store, upstreamTokens, logger } = deps;
  const { prefix } = routes().config.paths;
  const home = `${prefix}/routes`;
  const router = new Router();
  const onIssuer = (ctx: Context) => ctx.host === new URL(routes().config.issuer).host;
  const issuerOnly: Middleware = (ctx, next) => (onIssuer(ctx) ? next() : undefined);

  for (const path of [prefix, home])
    router.get(path, async (ctx) => {
      ctx.set({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
      // One page for all hosts.
      if (!onIssuer(ctx) || ctx.path !== home) return ctx.redirect(`${routes().config.issuer}${home}`);
      const person = await signIn.person(ctx);
      const csrf = signIn.csrfToken(ctx);
      if (!person || !csrf) return ctx.redirect(await signIn.begin(ctx, home + ctx.search));
      await show(ctx, person, csrf);
    });

  router.post(`${home}/connect`, issuerOnly, async (ctx) => {
    const posted = await formOf(ctx);
    const route = posted && routes().byId(posted.form.get("route") ?? "");
    if (!posted) return;
    if (!route?.enabled || !deps.mayReach(posted.person, route)) return back(ctx, {});
    const query = new URLSearchParams({
      route: route.id,
      redirect_url: `${routes().config.issuer}${home}?connected=${encodeURIComponent(route.id)}`,
      session: posted.person.sessionName,
    });
    seeOther(ctx, `${connectOrigin(routes().config, route)}${prefix}/mcp/connect?${query}`);
  });

  router.post(`${home}/disconnect`, issuerOnly, async (ctx) => {
    const posted = await formOf(ctx);
    if (!posted) return;
    // Also allowed if policy no longer lets the user use the server.
    const id = posted.form.get("route") ?? "";
    const { userId } = posted.person;
    const route = routes().byId(id);
    if (route) await upstreamTokens.disconnect(userId, route);
    else if (routes().reservedById(id))
      for (const key of await store.upstreamTokens.list({ userId, routeId: id }))
        await upstreamTokens.end(key, { reason: "disconnected by the user" });
    else return back(ctx, {});
    back(ctx, { disconnected: id });
  });

  router.post(`${home}/revoke`, issuerOnly, async (ctx) => {
    const posted = await formOf(ctx);
    if (!posted) return;
    const { userId } = posted.person;
    const clientId = posted.form.get("client") ?? "";
    const grants = await store.authorizationServerRecords.grants({ userId, clientId });
    for (const { grantId } of grants) {
      await store.authorizationServerRecords.revokeGrant(grantId, {
        action: "grant.revoked",
        userId,
        clientId,
        grantId,
        reason: "revoked by the user",
        requestId: requestId(ctx.req),
      });
    }
    back(ctx, { revoked: "1" });
  });

  router.post(`${home}/remove-member`, issuerOnly, async (ctx) => {
    const posted = await formOf(ctx);
    if (!posted) return;
    const { userId } = posted.person;
    const named = (name: string) => posted.form.get(name) ?? "";
    const [clientId, aggregate, routeId] = [named("client"), named("route"), named("member")];
    await removeMember(deps, { userId, clientId, aggregate, routeId }, { requestId: requestId(ctx.req) });
    back(ctx, { removed: routeId });
  });

  router.post(`${home}/delegate`, issuerOnly, async (ctx) => {
    const posted = await formOf(ctx);
    if (!posted) return;
    const asked = await askedFor(posted);
    if (!asked || !deps.mayReach(posted.person, asked.route)) return back(ctx, {});
    const { delegation, route } = asked;
    const { grantId, ownerId, account } = delegation;
    const which = { grantId, ownerId, routeId: route.id, upstream: route.upstream };
    const given = await store.delegations.give(which, {
      action: "delegation.created",
      userId: ownerId,
      grantId,
      routeId: route.id,
      upstream: route.upstream,
      requestId: requestId(ctx.req),
      detail: { account },
    });
    back(ctx, given ? { delegated: route.id } : {});
  });

  router.post(`${home}/undelegate`, issuerOnly, async (ctx) => {
    const posted = await formOf(ctx);
    if (!posted) return;
    const asked = await askedFor(posted);
    if (!asked) return back(ctx, {});
    const { grantId, ownerId, account, upstream } = asked.delegation;
    const ended = await store.delegations.end(
      { grantId, ownerId, routeId: asked.route.id },
      {
        action: "delegation.ended",
        userId: ownerId,
        grantId,
        routeId: asked.route.id,
        upstream,
        reason: "ended by the owner",
        requestId: requestId(ctx.req),
        detail: { account },
      },
    );
    back(ctx, ended ? { undelegated: asked.route.id } : {});
  });

  /** The requested delegation that the form names. */
  async function askedFor({ form, person }: { form: URLSearchParams; person: BrowserSession }) {
    const route = routes().byId(form.get("route") ?? "");
    const delegations = await store.delegations.ofOwner(person.userId);
    const delegation = delegations.find(
      ({ grantId, routeId }) => grantId === form.get("account") && routeId === route?.id,
    );
    return route && delegation && { route, delegation };
  }

  async function show(ctx: Context, person: BrowserSession, csrf: string): Promise<void> {
    const [servers, clients, serviceAccounts] = await Promise.all([
      connectionEntries(deps, person),
      clientEntries(deps, person.userId),
      serviceAccountEntries(deps, person.userId),
    ]);
    const page = connectionsPage({
      person: person.email ?? person.name ?? person.userId,
      known: {
        userId: person.userId,
        email: person.email,
        groups: person.groups,
        groupsWithheld: hasWithheldGroups(person),
        checkedAt: new Date(person.checkedAt * 1000),
      },
      servers,
      clients,
      serviceAccounts,
      notice: noticeOf(ctx, servers),
      csrf,
      home,
      signOut: `${prefix}/sign_out`,
      now: new Date(),
    });
    const logos = servers.flatMap(({ logoUrl }) => (logoUrl ? [logoUrl] : []));
    sendPage(ctx, 200, page, logos);
  }

  /** The posted form of a signed-in user; undefined if the request has been answered. */
  async function formOf(
    ctx: Context,
  ): Promise<{ form: URLSearchParams; person: BrowserSession } | undefined> {
    const form = await readForm(ctx);
    const person = await signIn.person(ctx);
    if (!person) {
      seeOther(ctx, await signIn.begin(ctx, home));
      return undefined;
    }
    if (signIn.csrfMatches(ctx, form.get("csrf"))) return { form, person };
    const id = requestId(ctx.req);
    logger.info({ requestId: id, reason: "csrf", path: ctx.path }, "portal form rejected");
    const page = errorPage({
      title: "Nothing was changed",
      happened:
        "The form was not submitted from the page in this browser, or you have signed in again since.",
      remedy: "Open your connections and press the button there.",
      code: "csrf",
      requestId: id,
      action: { label: "Your connections", href: home },
    });
    sendPage(ctx, 403, page);
    return undefined;
  }

  function back(ctx: Context, done: Record<string, string>): void {
    const query = new URLSearchParams(done);
    seeOther(ctx, query.size > 0 ? `${home}?${query}` : home);
  }

  return router;
}

/** What just happened. Fixed texts only: anyone can create a link to this page. */
function noticeOf(
  ctx: Context,
  servers: readonly ConnectionsPage["servers"][number][],
): ConnectionsPage["notice"] {
  const {
    connected,
    disconnected,
    delegated,
    undelegated,
    revoked,
    removed,
    connect_error: error,
  } = ctx.query;
  const server = servers.find(({ id }) =>
    [connected, disconnected, delegated, undelegated, removed].includes(id),
  );
  if (connected !== undefined && error !== undefined && server)
    return {
      kind: "problem",
      text: `${server.name} was not connected: ${failureInWords(error, readFailureCode(ctx.query.connect_error_reason))}`,
    };
  if (connected !== undefined && server?.state === "connected")
    return { kind: "done", text: `${server.name} is connected.` };
  if (disconnected !== undefined && server?.state === "missing")
    return { kind: "done", text: `${server.name} is disconnected, and its token is deleted.` };
  if (delegated !== undefined && server)
    return { kind: "done", text: `A service account may now use your connection to ${server.name}.` };
  if (undelegated !== undefined && server)
    return { kind: "done", text: `The service account may no longer use your connection to ${server.name}.` };
  if (removed !== undefined && server)
    return { kind: "done", text: `${server.name} is removed from the servers that the application may use.` };
  if (revoked !== undefined) return { kind: "done", text: "The application has lost its access." };
  return undefined;
}

function seeOther(ctx: Context, location: string): void {
  ctx.set({ "cache-control": "no-store", "referrer-policy": "no-referrer" });
  ctx.status = 303;
  ctx.redirect(location);
}
