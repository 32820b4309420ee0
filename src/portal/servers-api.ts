import Router from "@koa/router";
import type { Context } from "koa";
import { z } from "zod";
import { membersOf } from "../config/aggregates.ts";
import { labelMembers } from "../config/labels.ts";
import { aggregateOf, consentAuth, needsPersonsConnection, type Route } from "../model/route.ts";
import { bearerChallenge } from "../server/http/bearer-challenge.ts";
import { openCors, readBody, requestId } from "../server/http/request.ts";
import { type PortalDeps, reachableRoutes, type ServerState, serverStates } from "./server-states.ts";

/** The user that a request acts for, or why there is none. */
export type IdentifiedUser =
  | {
      readonly ok: true;
      /** The user whose connections are used: for a service account, its owner. */
      readonly userId: string;
      readonly routes: readonly Route[];
      /** A service account may list the connections of its owner, but not disconnect them. */
      readonly isServiceAccount: boolean;
    }
  | { readonly ok: false; readonly status: 401 | 503; readonly description: string };

type Deps = Pick<PortalDeps, "routes" | "mayReach" | "externalTokens" | "signIn" | "people">;

/**
 * The user of a request and its servers: with an external token, those that the token is valid for; with a browser session, all that
 * policy allows.
 */
export async function identifyUser(ctx: Context, deps: Deps): Promise<IdentifiedUser> {
  const { authorization } = ctx.req.headers;
  if (authorization !== undefined) return byToken(authorization, deps);
  const person = await deps.signIn.person(ctx);
  if (!person) return unauthorized("sign in, or send an access token");
  return { ok: true, userId: person.userId, routes: reachableRoutes(deps, person), isServiceAccount: false };
}

async function byToken(authorization: string, deps: Deps): Promise<IdentifiedUser> {
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (!token) return unauthorized("only one bearer token is accepted");
  const identified = await deps.externalTokens.identify(token);
  if (!identified.ok) {
    return identified.rejection === "issuer_unavailable"
      ? {
          ok: false,
          status: 503,
          description: "the keys of the token's issuer cannot be fetched; try again later",
        }
      : unauthorized(`the token is not accepted (${identified.rejection})`);
  }
  const { caller } = identified;
  const owner = caller.delegatedBy === undefined ? undefined : await deps.people.read(caller.delegatedBy);
  // A service account cannot use a server that its owner may no longer use; the check enforces the same.
  const usable = (route: Route) =>
    caller.delegatedBy === undefined ||
    !needsPersonsConnection(route) ||
    (owner !== undefined && deps.mayReach(owner, route));
  const reachable = reachableRoutes(deps, caller).filter(usable);
  const verdicts = await Promise.all(
    reachable.map(async (route) => ({ route, verdict: await deps.externalTokens.verify(token, route) })),
  );
  // Otherwise a server would seem to be gone.
  if (verdicts.some(({ verdict }) => !verdict.ok && verdict.rejection === "too_many_callers"))
    return { ok: false, status: 503, description: "too many callers have come at once; try again later" };
  return {
    ok: true,
    userId: caller.delegatedBy ?? caller.userId,
    routes: verdicts.flatMap(({ route, verdict }) => (verdict.ok ? [route] : [])),
    isServiceAccount: caller.kind === "service_account",
  };
}

function unauthorized(description: string): IdentifiedUser {
  return { ok: false, status: 401, description };
}

const disconnectBody = z.object({ routes: z.array(z.string().max(2048)).min(1).max(100) });

/** The API for applications: lists the user's MCP servers and disconnects them. */
export function createServersRouter(deps: PortalDeps): Router {
  const { routes, upstreamTokens } = deps;
  const path = `${routes().config.paths.prefix}/mcp/routes`;
  const router = new Router();

  router.get(path, openCors("GET"), async (ctx) => {
    const user = await identifyOrReply(ctx);
    if (user) await answer(ctx, user);
  });

  router.post(`${path}/disconnect`, openCors("POST"), async (ctx) => {
    const user = await identifyOrReply(ctx);
    if (!user) return;
    // A page of another origin cannot send JSON with our cookie: the preflight allows no credentials. This is defense in depth.
    const site = ctx.get("sec-fetch-site");
    if (!ctx.req.headers.authorization && site && site !== "same-origin")
      return answerError(ctx, 403, "cross_origin", "a page of another origin must send an access token");
    if (user.isServiceAccount)
      return answerError(ctx, 403, "access_denied", "a service account cannot disconnect its owner");
    const body = disconnectBody.safeParse(json(await readBody(ctx, "application/json")));
    if (!body.success)
      return answerError(
        ctx,
        400,
        "invalid_request",
        'send {"routes": ["https://..."]}: 1 to 100 URLs or ids',
      );
    const found = body.data.routes.map((named) => routeNamed(named, user));
    const unknown = body.data.routes.find((_, index) => !found[index]);
    if (unknown !== undefined)
      return answerError(ctx, 400, "unknown_route", `you have no server ${JSON.stringify(unknown)}`);
    for (const route of new Set(found)) if (route) await upstreamTokens.disconnect(user.userId, route);
    await answer(ctx, user);
  });

  for (const [at, methods] of [
    [path, "GET"],
    [`${path}/disconnect`, "POST"],
  ] as const)
    router.options(at, openCors(methods));

  async function identifyOrReply(ctx: Context): Promise<Extract<IdentifiedUser, { ok: true }> | undefined> {
    const user = await identifyUser(ctx, deps);
    if (user.ok) return user;
    const { status, description } = user;
    if (status === 503) {
      ctx.set("retry-after", "5");
      answerError(ctx, status, "temporarily_unavailable", description);
      return undefined;
    }
    const id = requestId(ctx.req);
    const challenge = bearerChallenge({ error: "invalid_token", description, requestId: id });
    ctx.status = status;
    ctx.set({ "www-authenticate": challenge.wwwAuthenticate, "cache-control": "no-store" });
    ctx.body = challenge.body;
    return undefined;
  }

  async function answer(ctx: Context, { userId, routes: reachable }: Extract<IdentifiedUser, { ok: true }>) {
    ctx.set("cache-control", "no-store");
    const states = await serverStates(deps, userId, reachable);
    ctx.body = { servers: states.map((state) => ({ ...entry(state), ...membersIn(state, states) })) };
  }

  /** For an aggregated route: the URLs of its members that are in the same list. */
  function membersIn(
    { route }: ServerState,
    states: readonly ServerState[],
  ): { readonly members?: string[] } {
    if (aggregateOf(route) === undefined) return {};
    const ids = new Set(membersOf(routes().config, route).map((member) => member.route.id));
    return { members: states.filter((one) => ids.has(one.route.id)).map(({ url }) => url) };
  }

  /** Finds a route by id, or by its URL or any URL below it; only routes that this caller may reach. */
  function routeNamed(named: string, { routes: reachable }: Extract<IdentifiedUser, { ok: true }>) {
    const route = routes().byId(named) ?? routes().byResource(named);
    return reachable.find((one) => one.id === route?.id);
  }

  return router;
}

/** The field names are Pomerium's: applications written for it read them. */
function entry({ route, url, state }: ServerState): Record<string, unknown> {
  const { name, description, logoUrl } = route;
  return {
    name,
    ...(description && { description }),
    ...(logoUrl && { logo_url: logoUrl }),
    ...labelMembers(route.labels),
    url,
    connected: state === "connected" || state === "not_needed",
    needs_oauth: consentAuth(route) !== undefined && state !== "not_needed",
    auth_connected: state === "not_needed" || !needsPersonsConnection(route) ? null : state === "connected",
  };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function answerError(ctx: Context, status: number, error: string, description: string): void {
  ctx.status = status;
  ctx.set("cache-control", "no-store");
  ctx.body = { error, error_description: description, request_id: requestId(ctx.req) };
}
