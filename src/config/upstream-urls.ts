import { createHash } from "node:crypto";
import type { Route } from "../model/route.ts";
import { normalPath, pathFault, upstreamPath } from "./paths.ts";
import type { RouteTable } from "./route-table.ts";

/**
 * Where a URL that an upstream wrote into an answer leads, seen from outside.
 *
 * - `ours`: a path of ours that Envoy rewrites to it;
 * - `beside`: on the upstream's host, but no path of ours leads there: `besidePath` makes one;
 * - `elsewhere`: another host, a place of another route, whose policy counts there, or no http URL that everybody reads alike.
 */
export type UpstreamPlace =
  | {
      readonly kind: "ours" | "beside";
      readonly path: string;
      /** Query and fragment, with their signs. */
      readonly rest: string;
      /** The path as the upstream knows it. */
      readonly upstreamPath: string;
    }
  | { readonly kind: "elsewhere" };

type Mapped = Pick<Route, "id" | "host" | "origin" | "prefix" | "to" | "upstream" | "upstreamPath">;

/** Longer ones are nobody's address. Characters. */
const longest = 8192;

/**
 * Finds the place of a URL in an upstream's answer (`Location`, the first event of a legacy stream). Hosts and ports are compared
 * with those of `to` and `from`, whatever the scheme says: behind a TLS terminator servers name the wrong one.
 *
 * @param asked path of the request as the client sent it, in normal form: relative URLs start there.
 */
export function upstreamPlace(
  route: Mapped,
  asked: string,
  reference: string,
  table: Pick<RouteTable, "find" | "isOwnPath" | "config">,
): UpstreamPlace {
  const base = new URL(upstreamPath(route, asked), route.upstream);
  const url = reference.length > longest ? null : URL.parse(reference, base);
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) return { kind: "elsewhere" };
  const ofUpstream = [base.href, ...route.to].some((one) => sameHost(url, new URL(one)));
  if (!ofUpstream && !sameHost(url, new URL(route.origin))) return { kind: "elsewhere" };
  if (pathFault(url.pathname) !== undefined) return { kind: "elsewhere" };
  const path = normalPath(url.pathname);
  const rest = url.search + url.hash;
  const leads = (ours: string) =>
    table.find(route.host, ours)?.id === route.id && !table.isOwnPath(route.host, ours);
  const found = candidates(route, path).find((ours) => upstreamPath(route, ours) === path && leads(ours));
  if (found !== undefined) return { kind: "ours", path: found, rest, upstreamPath: path };
  // A server that has been told its public URL speaks of that.
  if (!ofUpstream && isBelow(path, route.prefix) && leads(path))
    return { kind: "ours", path, rest, upstreamPath: upstreamPath(route, path) };
  if (!ofUpstream || table.config.routes.some((other) => isOfAnother(route, other, url, path)))
    return { kind: "elsewhere" };
  return { kind: "beside", path, rest, upstreamPath: path };
}

/** Paths of ours that may lead to a path of the upstream. */
function candidates({ prefix, upstreamPath: to }: Mapped, path: string): string[] {
  if (to === undefined || to === prefix) return [path];
  const base = prefix === "/" ? "" : prefix;
  const root = to.replace(/\/$/, "");
  if (path === to) return [prefix];
  const below = path.startsWith(`${root}/`) ? [base + path.slice(root.length)] : [];
  return [...below, base + path];
}

/** Whether a place of an upstream's host is what another route is there for, and no more this one's. */
function isOfAnother(route: Mapped, other: Route, url: URL, path: string): boolean {
  const root = other.upstreamPath?.replace(/\/$/, "");
  if (other.id === route.id || !root || !isBelow(path, root)) return false;
  if (route.upstreamPath !== undefined && isBelow(route.upstreamPath, root)) return false;
  return other.to.some((to) => sameHost(url, new URL(to)));
}

function isBelow(path: string, prefix: string): boolean {
  return prefix === "/" || path === prefix || path.startsWith(`${prefix}/`);
}

/** Same host and port. The default ports of both schemes are one: the scheme does not count. */
export function sameHost(one: URL, other: URL): boolean {
  const port = (url: URL) => (url.port === "80" || url.port === "443" ? "" : url.port);
  return one.hostname === other.hostname && port(one) === port(other);
}

/**
 * Names one upstream of a route: where a credential that is set on a request would go. It covers `to` (order included) and how
 * the upstream is recognised, and no secret, because Envoy's configuration shows it.
 */
export function upstreamHash({
  to,
  upstreamPath,
  upstreamTls,
  preserveHostHeader,
}: Pick<Route, "to" | "upstreamPath" | "upstreamTls" | "preserveHostHeader">): string {
  const told = [
    to,
    upstreamTls?.serverName ?? null,
    upstreamTls?.caFile ?? null,
    preserveHostHeader === true,
    // Any other path is that of `to`.
    ...(upstreamPath === "/" ? [upstreamPath] : []),
  ];
  return createHash("sha256").update(JSON.stringify(told)).digest("hex").slice(0, 16);
}
