import { createHash } from "node:crypto";
import type { Route } from "../model/route.ts";

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
