import { isIP } from "node:net";
import type { Route } from "../model/route.ts";
import { type Json, typeUrl } from "./proto-json.ts";

/** Runs on routes whose upstream is at several addresses. */
export const affinityFilter = "envoy_mcp_auth.affinity";
const key = "envoy_mcp_auth.affinity";
const checked = "envoy.filters.http.ext_authz";

/**
 * Whether a route's requests are spread over several endpoints: several `to`, or a name, which may have several addresses. An MCP
 * server keeps its sessions in one of them, so all that one person sends through one client goes to the same: the endpoint must
 * be known before its answer names the session, and legacy streams name theirs in a URL.
 */
export function hasAffinity({ mcp, to }: Route): boolean {
  if (mcp.kind !== "server") return false;
  return to.length > 1 || to.some((url) => isIP(new URL(url).hostname.replace(/^\[(.*)\]$/, "$1")) === 0);
}

/** Says for the load balancer whose request it is, as the check has found. */
export function affinityState(): Json {
  return {
    "@type": typeUrl("extensions.filters.http.set_filter_state.v3.Config"),
    on_request_headers: [
      {
        object_key: key,
        factory_key: "envoy.hashable_string",
        format_string: {
          text_format_source: {
            inline_string: `%DYNAMIC_METADATA(${checked}:user)% %DYNAMIC_METADATA(${checked}:client)%`,
          },
        },
      },
    ],
  };
}

/** Of an Envoy route. */
export const affinityPolicy: { readonly [key: string]: Json } = {
  hash_policy: [{ filter_state: { key } }],
};

/** Of its cluster: when an endpoint is added or goes, the others keep theirs. */
export const affinityBalancer: { readonly [key: string]: Json } = {
  lb_policy: "RING_HASH",
  ring_hash_lb_config: { minimum_ring_size: 256 },
};
