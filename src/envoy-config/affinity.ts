import { isIP } from "node:net";
import type { Route } from "../model/route.ts";
import { type Json, typeUrl } from "./proto-json.ts";

/** Enabled on routes whose upstream has several addresses. */
export const affinityFilter = "envoy_mcp_auth.affinity";
const key = "envoy_mcp_auth.affinity";
const checked = "envoy.filters.http.ext_authz";

/**
 * Whether a route's upstream may have several endpoints: several `to`, or a host name, which may have several addresses. An MCP
 * server keeps a session in one of them, so all requests of one person and client go to the same endpoint. The session id cannot
 * select it: the endpoint must be known before the first response names the session, and legacy streams name it in a URL.
 */
export function hasAffinity({ mcp, to }: Route): boolean {
  if (mcp.kind !== "server") return false;
  return to.length > 1 || to.some((url) => isIP(new URL(url).hostname.replace(/^\[(.*)\]$/, "$1")) === 0);
}

/** Passes the user and client that the check found to the load balancer. */
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

/** For an Envoy route. */
export const affinityPolicy: { readonly [key: string]: Json } = {
  hash_policy: [{ filter_state: { key } }],
};

/** For its cluster: when an endpoint is added or removed, users of the other endpoints stay where they are. */
export const affinityBalancer: { readonly [key: string]: Json } = {
  lb_policy: "RING_HASH",
  ring_hash_lb_config: { minimum_ring_size: 256 },
};
