import type { Context } from "koa";
import { needsPersonsConnection, type Route } from "../model/route.ts";
import type { PortalDeps } from "./portal-deps.ts";
import { reachableRoutes } from "./reachable-routes.ts";

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
 * Who asks, and for which servers: by a TE, those it is good for (all of F5.1's); else by the browser's session, all that
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
    return identified.refusal === "issuer_unavailable"
      ? {
          ok: false,
          status: 503,
          description: "the keys of the token's issuer cannot be fetched now; try again later",
        }
      : unauthorized(`the token is not accepted (${identified.refusal})`);
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
