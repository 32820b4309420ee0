/**
 * Every timeout of a generated configuration, except those that Envoy shortens as its memory runs out (`bootstrap.ts`). Whatever a
 * client can leave unfinished has a timeout; responses have none, because event streams stay open.
 */
import type { Config } from "../config/config.ts";
import type { Json } from "./proto-json.ts";

type Fields = { readonly [key: string]: Json };

/** Of the TLS handshake, and of a request's headers. */
export const openingTimeout = "10s";

/** Of requests from clients: `envoy.request_timeout` limits the upload, and a response that the client stops reading. */
export function requestTimeouts({ envoy }: Config): Fields {
  return {
    request_headers_timeout: openingTimeout,
    request_timeout: seconds(envoy.requestTimeout),
    stream_idle_timeout: "0s",
    stream_flush_timeout: seconds(envoy.requestTimeout),
  };
}

/** Of a client's connection without requests. */
export function idleTimeout({ envoy }: Config): string {
  return seconds(envoy.idleTimeout);
}

/** HTTP/2 pings to clients. */
export const clientKeepalive = { interval: "60s", timeout: "20s" } satisfies Fields;

/** Of ext_authz and ext_proc: the sidecar responds within `check.deadline`, so this is for a sidecar that does not respond. */
export function checkTimeout({ check }: Config): string {
  return seconds((check.deadlineMs + 500) / 1000);
}

/** Of requests to upstreams: MCP streams stay open indefinitely. */
export const upstreamTimeouts = { timeout: "0s", idle_timeout: "0s" } satisfies Fields;

/** Of requests to the gateway's own paths: anonymous clients may call them, so an incomplete body times out sooner. */
export const ownPathTimeouts = { timeout: "60s", idle_timeout: "30s" } satisfies Fields;

export const upstreamConnectTimeout = "5s";
export const sidecarConnectTimeout = "1s";

/** HTTP/2 pings to the sidecar: within 30 seconds, Envoy detects that a replica is gone. */
export const sidecarKeepalive = { interval: "20s", timeout: "5s" } satisfies Fields;

/** Health checks of the sidecar: a stopping replica reports not ready and waits until Envoy has noticed; one that hangs is skipped. */
export const healthCheckTimes = {
  timeout: "2s",
  interval: "1s",
  no_traffic_interval: "1s",
} satisfies Fields;

/** Pause between an Envoy's requests for its configuration; Envoy adds up to as much again, at random. */
export const fetchPause = "0.3s";

/** How long the sidecar holds such a request while nothing changes, ms. */
export const fetchHoldMs = 10_000;

/** Of such a request: longer than the sidecar holds it. */
export const fetchTimeout = "15s";

/** Of exporting spans to the collector. */
export const traceExportTimeout = "5s";

function seconds(value: number): string {
  return `${value}s`;
}
