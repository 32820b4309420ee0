import Router from "@koa/router";
import type { Context } from "koa";
import { z } from "zod";
import { consentAuth, needsPersonsConnection, type Route } from "../model/route.ts";
import { openCors, readBody, requestId } from "../server/http/request.ts";
import { type PortalDeps, reachableRoutes, type ServerState, serverStates } from "./portal.ts";

/** Somebody an application's request speaks for, or why nobody. */
export type Asking =
  | {
      readonly ok: true;
      /** Whose connections are meant: a service account's are its owner's. */
      readonly userId: string;
      readonly routes: readonly Route[];
      /** A machine may look, but not undo what its owner has consented to. */
      readonly machine: boolean;
    }
  | { readonly ok: false; readonly status: 401 | 503; readonly description: string };

type Deps = Pick<PortalDeps, "routes" | "mayReach" | "externalTokens" | "signIn" | "people">;

/**
 * Who asks, and for which servers: by a TE, those it is good for (all of a session's); else by the browser's session, all that
 * policy allows.
 */
export async function whoAsks(ctx: Context, deps: Deps): Promise<Asking> {
  const { authorization } = ctx.req.headers;
  if (authorization !== undefined) return byToken(authorization, deps);
  const person = await deps.signIn.person(ctx);
  if (!person) return unauthorized("sign in, or send an access token");
  return { ok: true, userId: person.userId, routes: reachableRoutes(deps, person), machine: false };
}

async function byToken(authorization: string, deps: Deps): Promise<Asking> {
  const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
  if (!token) return unauthorized("only one bearer token is accepted");
  const identified = await deps.externalTokens.identify(token);
  if (!identified.ok) {
    return identified.rejection === "issuer_unavailable"
      ? {
          ok: false,
          status: 503,
          description: "the keys of the token's issuer cannot be fetched now; try again later",
        }
      : unauthorized(`the token is not accepted (${identified.rejection})`);
  }
  const { caller } = identified;
  const owner = caller.delegatedBy === undefined ? undefined : await deps.people.read(caller.delegatedBy);
  // What an owner may not use any more, nobody uses in their name: the check says the same.
  const usable = (route: Route) =>
    caller.delegatedBy === undefined ||
    !needsPersonsConnection(route) ||
    (owner !== undefined && deps.mayReach(owner, route));
  const reachable = reachableRoutes(deps, caller).filter(usable);
  const verdicts = await Promise.all(
    reachable.map(async (route) => {
      const { ok } = await deps.externalTokens.verify(token, route);
      return ok ? [route] : [];
    }),
  );
  return {
    ok: true,
    userId: caller.delegatedBy ?? caller.userId,
    routes: verdicts.flat(),
    machine: caller.kind === "service_account",
  };
}

function unauthorized(description: string): Asking {
  return { ok: false, status: 401, description: `Unauthorized: ${description}` };
}

const disconnectBody = z.object({ routes: z.array(z.string().max(2048)).min(1).max(100) });

/** What applications ask for their users: which MCP servers there are, and to give one up. */
export function createListingRouter(deps: PortalDeps): Router {
  const { routes, upstreamTokens } = deps;
  const path = `${routes().config.paths.prefix}/mcp/routes`;
  const router = new Router();

  router.get(path, openCors("GET"), async (ctx) => {
    const asking = await known(ctx);
    if (asking) await answer(ctx, asking);
  });

  router.post(`${path}/disconnect`, openCors("POST"), async (ctx) => {
    const asking = await known(ctx);
    if (!asking) return;
    // A page of another origin cannot send JSON along with our cookie without a preflight, which allows no cookies; this is
    // for browsers that think otherwise.
    const site = ctx.get("sec-fetch-site");
    if (!ctx.req.headers.authorization && site && site !== "same-origin")
      return refuse(ctx, 403, "cross_origin", "a page of another origin needs an access token");
    if (asking.machine)
      return refuse(ctx, 403, "access_denied", "a service account cannot give up its owner's connections");
    const body = disconnectBody.safeParse(json(await readBody(ctx, "application/json")));
    if (!body.success)
      return refuse(ctx, 400, "invalid_request", 'send {"routes": ["https://..."]}: 1 to 100 URLs or ids');
    const meant = body.data.routes.map((named) => routeNamed(named, asking));
    const unknown = body.data.routes.find((_, index) => !meant[index]);
    if (unknown !== undefined)
      return refuse(ctx, 400, "unknown_route", `no server of yours is called ${JSON.stringify(unknown)}`);
    for (const route of new Set(meant)) if (route) await upstreamTokens.disconnect(asking.userId, route);
    await answer(ctx, asking);
  });

  for (const [at, methods] of [
    [path, "GET"],
    [`${path}/disconnect`, "POST"],
  ] as const)
    router.options(at, openCors(methods));

  async function known(ctx: Context): Promise<Extract<Asking, { ok: true }> | undefined> {
    const asking = await whoAsks(ctx, deps);
    if (asking.ok) return asking;
    const { status, description } = asking;
    if (status === 503) ctx.set("retry-after", "5");
    else ctx.set("www-authenticate", `Bearer error="invalid_token", error_description="${description}"`);
    refuse(ctx, status, status === 401 ? "invalid_token" : "temporarily_unavailable", description);
    return undefined;
  }

  async function answer(ctx: Context, { userId, routes: reachable }: Extract<Asking, { ok: true }>) {
    ctx.set("cache-control", "no-store");
    ctx.body = { servers: (await serverStates(deps, userId, reachable)).map(entry) };
  }

  /** By URL, anything at or under it, or by id; only what this caller may reach. */
  function routeNamed(named: string, { routes: reachable }: Extract<Asking, { ok: true }>) {
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
    url,
    connected: state === "connected" || state === "not_needed",
    needs_oauth: consentAuth(route) !== undefined && state !== "not_needed",
  };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refuse(ctx: Context, status: number, error: string, description: string): void {
  ctx.status = status;
  ctx.set("cache-control", "no-store");
  ctx.body = { error, error_description: description, request_id: requestId(ctx.req) };
}
