import { isIP } from "node:net";
import type { Json } from "./json.ts";

/** What all clusters share. Streams of MCP stay open for hours, so Envoy's default of 1,024 requests at a time is soon used up. */
export function clusterDefaults(hosts: readonly string[]): { readonly [key: string]: Json } {
  const named = hosts.some(
    (host) => !host.startsWith("unix:") && isIP(host.replace(/^\[(.*)\]$/, "$1")) === 0,
  );
  return {
    type: named ? "STRICT_DNS" : "STATIC",
    ...(named ? { dns_lookup_family: "V4_PREFERRED" } : {}),
    connect_timeout: "5s",
    circuit_breakers: {
      thresholds: [
        { max_connections: 65_536, max_pending_requests: 65_536, max_requests: 65_536, max_retries: 1024 },
      ],
    },
    upstream_connection_options: { tcp_keepalive: { keepalive_time: 60, keepalive_interval: 15 } },
  };
}
