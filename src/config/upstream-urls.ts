import { createHash } from "node:crypto";
import type { Route } from "../model/route.ts";
import { normalPath, pathFault, upstreamPath } from "./paths.ts";
import type { RouteTable } from "./route-table.ts";

/**
 * The public location of a URL in a response of an upstream.
 *
 * - `mapped`: a public path that Envoy rewrites to it;
 * - `unmapped`: on the upstream's host, but without a public path: `provenUpstreamPath` creates one;
 * - `elsewhere`: another host, a path of another route, whose policy applies there, or a URL that is invalid or ambiguous.
 */
export type PublicLocation =
  | {
      readonly kind: "mapped" | "unmapped";
      readonly path: string;
      /** Query and fragment, with `?` and `#`. */
      readonly rest: string;
      /** The path at the upstream. */
      readonly upstreamPath: string;
    }
  | { readonly kind: "elsewhere" };

type Mapped = Pick<Route, "id" | "host" | "origin" | "prefix" | "to" | "upstream" | "upstreamPath">;

/** Longer URLs are not mapped. Characters. */
const maxUrlLength = 8192;

/**
 * Locates a URL of an upstream's response (`Location`, the first event of a legacy stream). Hosts and ports are compared with `to` and
 * `from`, regardless of the scheme, which servers behind a TLS terminator often get wrong.
 *
 * @param asked path of the request as the client sent it, in normal form: the base of relative URLs
 */
export function publicLocation(
  route: Mapped,
  asked: string,
  reference: string,
  table: Pick<RouteTable, "find" | "isOwnPath" | "config">,
): PublicLocation {
  const base = new URL(upstreamPath(route, asked), route.upstream);
  const url = reference.length > maxUrlLength ? null : URL.parse(reference, base);
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) return { kind: "elsewhere" };
  const ofUpstream = [base.href, ...route.to].some((one) => sameHost(url, new URL(one)));
  if (!ofUpstream && !sameHost(url, new URL(route.origin))) return { kind: "elsewhere" };
  if (pathFault(url.pathname) !== undefined) return { kind: "elsewhere" };
  const path = normalPath(url.pathname);
  const rest = url.search + url.hash;
  const servedByRoute = (publicPath: string) =>
    table.find(route.host, publicPath)?.id === route.id && !table.isOwnPath(route.host, publicPath);
  const found = candidates(route, path).find(
    (one) => upstreamPath(route, one) === path && servedByRoute(one),
  );
  if (found !== undefined) return { kind: "mapped", path: found, rest, upstreamPath: path };
  // A server that knows its public URL uses it.
  if (!ofUpstream && isBelow(path, route.prefix) && servedByRoute(path))
    return { kind: "mapped", path, rest, upstreamPath: upstreamPath(route, path) };
  if (!ofUpstream || table.config.routes.some((other) => isOfAnother(route, other, url, path)))
    return { kind: "elsewhere" };
  return { kind: "unmapped", path, rest, upstreamPath: path };
}

/** Public paths that may be rewritten to a path of the upstream. */
function candidates({ prefix, upstreamPath: to }: Mapped, path: string): string[] {
  if (to === undefined || to === prefix) return [path];
  const base = prefix === "/" ? "" : prefix;
  const root = to.replace(/\/$/, "");
  if (path === to) return [prefix];
  const below = path.startsWith(`${root}/`) ? [base + path.slice(root.length)] : [];
  return [...below, base + path];
}

/** Whether a path of the upstream's host belongs to another route. */
function isOfAnother(route: Mapped, other: Route, url: URL, path: string): boolean {
  const root = other.upstreamPath?.replace(/\/$/, "");
  if (other.id === route.id || !root || !isBelow(path, root)) return false;
  if (route.upstreamPath !== undefined && isBelow(route.upstreamPath, root)) return false;
  return other.to.some((to) => sameHost(url, new URL(to)));
}

function isBelow(path: string, prefix: string): boolean {
  return prefix === "/" || path === prefix || path.startsWith(`${prefix}/`);
}

/** Same host and port. The scheme is ignored, so the default ports of both schemes are equal. */
export function sameHost(one: URL, other: URL): boolean {
  const port = (url: URL) => (url.port === "80" || url.port === "443" ? "" : url.port);
  return one.hostname === other.hostname && port(one) === port(other);
}

/**
 * Identifies the upstream that gets the credential of a request. It covers `to` (including the order) and how the upstream is verified,
 * but no secret, because Envoy's configuration contains it.
 */
export function upstreamHash({
  to,
  upstreamPath,
  upstreamTls,
  preserveHostHeader,
}: Pick<Route, "to" | "upstreamPath" | "upstreamTls" | "preserveHostHeader">): string {
  const parts = [
    to,
    upstreamTls?.serverName ?? null,
    upstreamTls?.caFile ?? null,
    preserveHostHeader === true,
    // Any other path is part of `to`.
    ...(upstreamPath === "/" ? [upstreamPath] : []),
  ];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}
