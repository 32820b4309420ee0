import { mcpCors } from "../config/header-names.ts";
import { sentence } from "../config/problems.ts";
import { type Json, typeUrl } from "./proto-json.ts";

/** A request that fails in Envoy. The texts go to clients; only the access log has addresses and causes. */
interface Failure {
  /** Stable error code. */
  readonly reason: string;
  /** Which hop failed: the client's request, the check in front of the server, the server, or Envoy itself. */
  readonly hop: "client" | "authorization" | "upstream" | "gateway";
  /** CEL expression over the completed request. */
  readonly when: string;
  readonly happened: string;
  readonly remedy: string;
  /** Envoy responds before it assigns a request id: its access log has only the time. */
  readonly early?: true;
}

const details = "response.code_details";
const has = (...parts: string[]) => parts.map((part) => `${details}.contains('${part}')`).join(" || ");
const later = "Try again in a moment. If the problem persists, tell the people who run this gateway.";
const operator = "Tell the people who run this gateway: its log has the cause under this request id.";

/** The first match applies. */
const failures: readonly Failure[] = [
  {
    reason: "authorization_unavailable",
    hop: "authorization",
    when: `${details}.startsWith('ext_authz_error') || ${details}.startsWith('ext_proc')`,
    happened: "the gateway's authorization service did not answer",
    remedy: later,
  },
  {
    reason: "authorization_unavailable",
    hop: "authorization",
    when: `xds.cluster_name == 'sidecar_http' && response.code >= 500`,
    happened: "the gateway's sign-in service did not answer",
    remedy: later,
  },
  {
    reason: "upstream_tls_failed",
    hop: "upstream",
    when: has("TLS_error", "CERTIFICATE"),
    happened:
      "no secure connection to the server behind this address: its certificate or its TLS settings are not accepted",
    remedy: operator,
  },
  {
    reason: "upstream_connection_refused",
    hop: "upstream",
    when: has("Connection_refused"),
    happened: "the server behind this address refuses connections: it is down or restarting",
    remedy: later,
  },
  {
    reason: "upstream_connection_timeout",
    hop: "upstream",
    when: has("connection_timeout", "connect_timeout"),
    happened: "the server behind this address did not accept a connection in time",
    remedy: later,
  },
  {
    reason: "upstream_no_address",
    hop: "upstream",
    when: has("no_healthy_upstream"),
    happened: "no address is known for the server behind this address: its name does not resolve",
    remedy: operator,
  },
  {
    reason: "upstream_overflow",
    hop: "gateway",
    when: has("overflow"),
    happened: "too many requests are waiting for the server behind this address",
    remedy: later,
  },
  {
    reason: "upstream_unreachable",
    hop: "upstream",
    when: has("connection_failure"),
    happened: "the server behind this address cannot be reached",
    remedy: later,
  },
  {
    reason: "upstream_protocol_error",
    hop: "upstream",
    when: has("protocol_error", "upstream_response_headers", "upstream_reset_before_response_started{http"),
    happened: "the response of the server behind this address is not valid HTTP",
    remedy: operator,
  },
  {
    reason: "upstream_reset",
    hop: "upstream",
    when: has("upstream_reset"),
    happened: "the server behind this address closed the connection before it responded",
    remedy: "Try again, but note that a call may have been carried out.",
  },
  {
    reason: "upstream_timeout",
    hop: "upstream",
    when: has("response_timeout", "upstream_per_try", "max_duration_timeout"),
    happened: "the server behind this address did not answer in time",
    remedy: later,
  },
  {
    reason: "bad_path",
    hop: "client",
    when: has("path_normalization_failed"),
    happened: "the path has an encoded slash, or a character that servers interpret differently",
    remedy: "Check the address.",
    early: true,
  },
  {
    reason: "not_found",
    hop: "client",
    when: "response.code == 404",
    happened: "nothing is served at this address",
    remedy: "Check the address.",
  },
  {
    reason: "request_timeout",
    hop: "client",
    when: "response.code == 408",
    happened: "the request did not arrive in time",
    remedy: "Send it again.",
  },
  {
    reason: "request_too_large",
    hop: "client",
    when: "response.code == 413 || response.code == 431",
    happened: "the request is too large",
    remedy: "Send less.",
  },
  {
    reason: "bad_request",
    hop: "client",
    when: "response.code >= 400 && response.code < 500",
    happened: "the request is not valid",
    remedy: "Check the client that sent it.",
  },
  {
    reason: "overloaded",
    hop: "gateway",
    when: has("overload"),
    happened: "the gateway is overloaded",
    remedy: later,
  },
];
const internal: Failure = {
  reason: "internal",
  hop: "gateway",
  when: "true",
  happened: "the request failed at the gateway, or at the server behind it",
  remedy: operator,
};

const bad =
  "(request.headers['x-request-id'].contains('<') || request.headers['x-request-id'].contains('&'))";
const navigation =
  "request.headers['accept'].contains('text/html') && (!('sec-fetch-mode' in request.headers) || request.headers['sec-fetch-mode'] == 'navigate')";
const unavailable = "response.code == 503";
const retryLater = header("retry-after", "1", "ADD_IF_ABSENT");
const common = [
  header("cache-control", "no-store", "OVERWRITE_IF_EXISTS_OR_ADD"),
  header("x-content-type-options", "nosniff", "OVERWRITE_IF_EXISTS_OR_ADD"),
];
const forPages = header(
  "content-security-policy",
  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  "OVERWRITE_IF_EXISTS_OR_ADD",
);
/** MCP clients in browsers must be able to read the reason. */
const forPrograms = mcpCors.map(([name, value]) => header(name, value, "OVERWRITE_IF_EXISTS_OR_ADD"));

/**
 * Envoy's responses when it has none to pass on: JSON like the gateway's own errors, with the hop that failed, or a page for a
 * person at a browser. No JSON-RPC, which would need the call's id (`denialBody`). The gateway's own responses stay unchanged.
 */
export function localReplies(): Json {
  return {
    mappers: [
      // The gateway's own responses also pass through here. After a 503, a client may try again in a moment.
      { filter: cel(`(${ownResponse}) && ${unavailable}`), headers_to_add: [retryLater] },
      { filter: cel(ownResponse) },
      // Envoy keeps the request id of a client in a private network, and its formats do not escape HTML.
      mapper(internal, `${bad} && ${navigation}`, page(internal, ""), [...common, forPages]),
      ...[...failures, internal].flatMap((failure) => [
        mapper(failure, `(${failure.when}) && ${navigation}`, page(failure), [...common, forPages]),
        mapper(failure, failure.when, json(failure), [...common, ...forPrograms]),
      ]),
    ],
  };
}

/** A denial by a check, a response of ext_proc, or a route's direct response. */
const ownResponse = `${details} == 'ext_authz_denied' || ${details} == 'direct_response' || ${details}.startsWith('envoy_mcp_auth_')`;

function mapper({ hop }: Failure, when: string, format: Json, headers: readonly Json[]): Json {
  const retry = hop === "client" ? [] : [retryLater];
  return { filter: cel(when), body_format_override: format, headers_to_add: [...headers, ...retry] };
}

function json({ reason, hop, happened, remedy }: Failure): Json {
  return {
    json_format: {
      error: reason,
      error_description: `${sentence(happened)} ${remedy}`,
      hop,
      request_id: "%REQ(X-REQUEST-ID)%",
    },
    content_type: "application/json",
  };
}

function page(failure: Failure, traced = inLog(failure)): Json {
  const { happened, remedy, hop } = failure;
  const title = hop === "client" ? "That did not work" : "This server cannot be reached";
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}code{font-size:.9em}</style></head>
<body><main><h1>${title}</h1>
<p>${sentence(happened)} ${remedy}</p>
<p>Failed: ${hops[hop]}.${traced}</p></main></body></html>
`;
  return { text_format_source: { inline_string: html }, content_type: "text/html; charset=utf-8" };
}

/** How to find the request in the gateway's log. */
function inLog({ early }: Failure): string {
  return early
    ? " Time in the gateway's log: <code>%START_TIME%</code>"
    : " Request id: <code>%REQ(X-REQUEST-ID)%</code>";
}

const hops: Readonly<Record<Failure["hop"], string>> = {
  client: "the request",
  authorization: "the gateway's authorization service",
  upstream: "the server behind the gateway",
  gateway: "the gateway",
};

function cel(expression: string): Json {
  return {
    extension_filter: {
      name: "envoy.access_loggers.extension_filters.cel",
      typed_config: {
        "@type": typeUrl("extensions.access_loggers.filters.cel.v3.ExpressionFilter"),
        expression,
      },
    },
  };
}

function header(key: string, value: string, action: string): Json {
  return { header: { key, value }, append_action: action };
}
