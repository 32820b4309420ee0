import type { Context } from "koa";
import { normalPath, pathFault } from "../config/paths.ts";
import type { CurrentRoutes, RouteTable } from "../config/route-table.ts";
import { type SignedCall, type SignedCalls, signedCallHeader } from "../external-tokens/signed-calls.ts";
import { aggregateOf, type Route } from "../model/route.ts";
import type { People } from "../store/people.ts";
import type { AggregateCall } from "./aggregation.ts";

/** The enabled aggregated route that a request is for, as Envoy routes it; undefined for other routes and for the gateway's own paths. */
export function aggregatedRouteOf(
  { req, path }: Pick<Context, "req" | "path">,
  table: Pick<RouteTable, "find" | "isOwnPath">,
): Route | undefined {
  const { host = "" } = req.headers;
  if (pathFault(path) !== undefined) return undefined;
  const normal = normalPath(path);
  const route = table.find(host, normal);
  if (!route?.enabled || aggregateOf(route) === undefined) return undefined;
  return table.isOwnPath(host, normal) ? undefined : route;
}

/**
 * Reads the call that the check of a request has allowed and signed: `AggregationDeps.callOf`. The network proves nothing here: a
 * request without it has not passed a check. A signature is accepted once.
 *
 * @returns undefined if there is none, or if it was signed for a request to another route, method or path, or the person has left
 * @throws (rejects) StoreUnavailable
 */
export function createCallOf(deps: {
  readonly routes: CurrentRoutes;
  readonly signedCalls: Pick<SignedCalls, "read">;
  readonly people: Pick<People, "find">;
}): (ctx: Context) => Promise<AggregateCall | undefined> {
  const { routes, signedCalls, people } = deps;

  function signedFor(ctx: Context) {
    const { req, path } = ctx;
    const header = req.headers[signedCallHeader];
    // No later middleware, log or upstream sees it.
    delete req.headers[signedCallHeader];
    const route = aggregatedRouteOf(ctx, routes());
    if (typeof header !== "string" || route === undefined) return undefined;
    const call = signedCalls.read(header);
    const isForThis =
      call?.routeId === route.id && call.method === req.method && call.path === normalPath(path);
    return call && isForThis ? { route, call } : undefined;
  }

  /** A person's facts are not part of the call: they come from the current sign-in record. */
  async function callerOf({ caller }: SignedCall): Promise<AggregateCall["caller"] | undefined> {
    if (caller.kind !== "person") return { ...caller, groups: [], claims: {} };
    const person = await people.find(caller.userId);
    return person && { ...caller, ...person };
  }

  return async (ctx) => {
    const signed = signedFor(ctx);
    const caller = signed && (await callerOf(signed.call));
    if (!caller) return undefined;
    const { sourceIp, requestId } = signed.call;
    const trace = traceOf(ctx);
    return { route: signed.route, caller, ...(sourceIp !== undefined && { sourceIp }), requestId, trace };
  };
}

function traceOf({ req }: Context): Readonly<Record<string, string>> {
  const names = ["traceparent", "tracestate", "baggage"];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = req.headers[name];
      return typeof value === "string" ? [[name, value]] : [];
    }),
  );
}
