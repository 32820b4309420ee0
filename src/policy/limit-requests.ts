import ipaddr from "ipaddr.js";
import type { Context, Middleware } from "koa";
import { LRUCache } from "lru-cache";
import type { CurrentRoutes } from "../config/route-table.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { refuseBeyondLimit } from "./refuse-beyond-limit.ts";

const hourMs = 3_600_000;
/** The address least recently seen beyond this many starts anew. */
const maxAddresses = 100_000;

/**
 * What one address may take from our own endpoints, which nobody has to sign in for: client registrations and
 * beginnings of an authorization leave rows behind. Windows of an hour, in this process.
 */
export function limitRequests(deps: {
  readonly routes: CurrentRoutes;
  readonly metrics: Metrics;
}): Middleware {
  const { routes, metrics } = deps;
  const counts = new LRUCache<string, { used: number }>({ max: maxAddresses, ttl: hourMs });

  return async (ctx, next) => {
    const { limits, paths, envoy } = routes().config;
    const kind = kindOf(ctx, paths.prefix);
    if (!kind) return next();
    const address =
      addressOf(ctx.get("x-forwarded-for"), envoy.xffNumTrustedHops) ?? ctx.req.socket.remoteAddress;
    const key = `${kind} ${address}`;
    const count = counts.get(key) ?? { used: 0 };
    const most = kind === "registrations" ? limits.registrationsPerAddress : limits.authorizationsPerAddress;
    if (count.used >= most) {
      metrics.limitsReached.inc({ limit: `${kind}_per_address` });
      ctx.set("retry-after", String(Math.max(1, Math.ceil(counts.getRemainingTTL(key) / 1000))));
      const why = `too many ${kind} from your address; try again later`;
      return refuseBeyondLimit(ctx, 429, "too_many_requests", why);
    }
    // Counted before the work, so that many at once do not all find room.
    count.used += 1;
    counts.set(key, count, { noUpdateTTL: true });
    await next();
  };
}

function kindOf(ctx: Context, prefix: string): "registrations" | "authorizations" | undefined {
  const { method, path } = ctx;
  if (method === "POST" && (path === "/oauth/register" || path === `${prefix}/mcp/register`))
    return "registrations";
  const begins =
    path === "/oauth/authorize" || path === `${prefix}/mcp/authorize` || path === `${prefix}/sign_in`;
  return method === "GET" && begins ? "authorizations" : undefined;
}

/**
 * Who Envoy says is calling: it appends the address it has seen, so what a client wrote itself stands further left.
 * IPv6 counts by /64, which is what one customer gets.
 */
function addressOf(forwardedFor: string, trustedHops: number): string | undefined {
  const written =
    forwardedFor
      .split(",")
      .at(-1 - trustedHops)
      ?.trim() ?? "";
  if (!ipaddr.isValid(written)) return undefined;
  const address = ipaddr.process(written);
  return address.kind() === "ipv4"
    ? address.toString()
    : ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`).toString();
}
