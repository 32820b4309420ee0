import type { Context, Middleware } from "koa";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { clientAddress } from "./client-address.ts";
import { countPerHour } from "./count-per-hour.ts";
import { refuseBeyondLimit } from "./refuse-beyond-limit.ts";

/**
 * What one address may take from our own endpoints, which nobody has to sign in for: client registrations and
 * beginnings of an authorization leave rows behind and make us look things up elsewhere. Windows of an hour, in this process.
 */
export function limitRequests(deps: {
  readonly routes: CurrentRoutes;
  readonly metrics: Metrics;
}): Middleware {
  const { routes, metrics } = deps;
  const counts = countPerHour();

  return async (ctx, next) => {
    const { limits, paths, envoy } = routes().config;
    const kind = kindOf(ctx, paths.prefix);
    if (!kind) return next();
    const key = `${kind} ${clientAddress(ctx.req, envoy.xffNumTrustedHops)}`;
    const most = kind === "registrations" ? limits.registrationsPerAddress : limits.authorizationsPerAddress;
    // Counted before the work, so that many at once do not all find room.
    if (!counts.take(key, most)) {
      metrics.limitsReached.inc({ limit: `${kind}_per_address` });
      ctx.set("retry-after", String(counts.retryAfter(key)));
      const why = `too many ${kind} from your address; try again later`;
      return refuseBeyondLimit(ctx, 429, "too_many_requests", why);
    }
    await next();
  };
}

function kindOf(ctx: Context, prefix: string): "registrations" | "authorizations" | undefined {
  const { method } = ctx;
  // Routers take a path in any case, with a slash at its end or without, and a HEAD for a GET.
  const path = ctx.path.toLowerCase().replace(/\/$/, "");
  const own = prefix.toLowerCase();
  if (method === "POST" && (path === "/oauth/register" || path === `${own}/mcp/register`))
    return "registrations";
  const begins =
    path === "/oauth/authorize" ||
    path === `${own}/mcp/authorize` ||
    path === `${own}/mcp/connect` ||
    path === `${own}/sign_in`;
  const posted = method === "POST" && path.endsWith("/authorize");
  return (method === "GET" || method === "HEAD" || posted) && begins ? "authorizations" : undefined;
}
