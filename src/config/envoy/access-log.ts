import type { Json } from "./json.ts";
import { typeUrl } from "./type-url.ts";

/** One JSON line per request on standard output. No query strings, no headers that carry secrets. */
export function accessLog(): Json {
  return {
    name: "envoy.access_loggers.stdout",
    typed_config: {
      "@type": typeUrl("extensions.access_loggers.stream.v3.StdoutAccessLog"),
      log_format: {
        json_format: {
          time: "%START_TIME%",
          request_id: "%REQ(X-REQUEST-ID)%",
          traceparent: "%REQ(TRACEPARENT)%",
          method: "%REQ(:METHOD)%",
          authority: "%REQ(:AUTHORITY)%",
          path: "%PATH(NQ:ORIG_OR_PATH)%",
          protocol: "%PROTOCOL%",
          status: "%RESPONSE_CODE%",
          details: "%RESPONSE_CODE_DETAILS%",
          flags: "%RESPONSE_FLAGS%",
          route: "%ROUTE_NAME%",
          mcp: "%DYNAMIC_METADATA(envoy.filters.http.mcp:method)%",
          client: "%DOWNSTREAM_REMOTE_ADDRESS%",
          upstream: "%UPSTREAM_HOST%",
          duration_ms: "%DURATION%",
          bytes_received: "%BYTES_RECEIVED%",
          bytes_sent: "%BYTES_SENT%",
        },
      },
    },
  };
}
