import type { Config } from "../config/config.ts";
import { sidecarGrpc } from "./clusters.ts";
import { type Json, typeUrl } from "./proto-json.ts";
import { checkTimeout } from "./timeouts.ts";

const checked = "envoy.filters.http.ext_authz";
const mcp = "envoy.filters.http.mcp";
/** Where an `initialize` request declares that its client can do URL mode elicitation (MCP 2025-11-25). */
export const elicitationOfClient = ["params", "capabilities", "elicitation", "url"] as const;

/**
 * Sends these responses to the sidecar: an upstream's 401 or 403 to a request that a check allowed, the response to a
 * `tools/list` that policy filters, an event stream that may be a legacy stream, an MCP server's response with a URL or a cookie in
 * its headers, and an application's response that may set one of the gateway's cookies. A matcher creates ext_proc only for these;
 * other responses cost nothing.
 *
 * `failure_mode_allow` stays off: an upstream's own challenge would send the client to the wrong authorization server, and an
 * unfiltered list would show denied tools.
 *
 * @param first matchers to try before
 */
export function challengeFilter(config: Config, first: readonly Json[] = []): Json {
  return {
    name: "envoy_mcp_auth.challenge",
    typed_config: {
      "@type": typeUrl("extensions.common.matching.v3.ExtensionWithMatcher"),
      extension_config: {
        name: "composite",
        typed_config: { "@type": typeUrl("extensions.filters.http.composite.v3.Composite") },
      },
      xds_matcher: {
        matcher_list: {
          matchers: [
            ...first,
            // Before the challenge, because ext_proc needs the start of these streams along with the headers.
            onMatch("stream", and(checkLeft("first_event"), eventStream), externalProcessor(config, true)),
            onMatch(
              "challenge",
              or(
                and(
                  or(
                    statusIs("401"),
                    statusIs("403"),
                    has("location"),
                    has("content-location"),
                    has("set-cookie"),
                  ),
                  checkLeft("route"),
                ),
                checkLeft("tool_filter"),
                ownSetCookie,
              ),
              externalProcessor(config, false),
            ),
          ],
        },
      },
    },
  };
}

/**
 * Sends the start of a session to the sidecar if its client can do URL mode elicitation, and the route may ask for it: like a
 * challenge, with the MCP filter's metadata.
 */
export function sessionMatch(config: Config): Json {
  return onMatch(
    "session",
    and(checkLeft("new_session"), present(mcp, elicitationOfClient), has("mcp-session-id")),
    externalProcessor(config, false, [checked, mcp]),
  );
}

function onMatch(name: string, predicate: Json, filter: Json): Json {
  return {
    predicate,
    on_match: {
      action: {
        name,
        typed_config: {
          "@type": typeUrl("extensions.filters.http.composite.v3.ExecuteFilterAction"),
          typed_config: filter,
        },
      },
    },
  };
}

function and(...predicate: Json[]): Json {
  return { and_matcher: { predicate } };
}

function or(...predicate: Json[]): Json {
  return { or_matcher: { predicate } };
}

/**
 * @param withBody Envoy sends the body as it arrives, so that a response can be replaced after its first bytes; otherwise it sends
 *   the body only if ext_proc requests it.
 * @param namespaces of dynamic metadata to send
 */
function externalProcessor(config: Config, withBody: boolean, namespaces = [checked]): Json {
  return {
    name: "envoy.filters.http.ext_proc",
    typed_config: {
      "@type": typeUrl("extensions.filters.http.ext_proc.v3.ExternalProcessor"),
      grpc_service: sidecarGrpc(config),
      failure_mode_allow: false,
      status_on_error: { code: "ServiceUnavailable" },
      processing_mode: {
        request_header_mode: "SKIP",
        response_header_mode: "SEND",
        request_body_mode: "NONE",
        response_body_mode: withBody ? "STREAMED" : "NONE",
        request_trailer_mode: "SKIP",
        response_trailer_mode: withBody ? "SEND" : "SKIP",
      },
      // ext_proc requests the body of a tools/list after its headers.
      ...(withBody ? { send_body_without_waiting_for_header_response: true } : { allow_mode_override: true }),
      message_timeout: checkTimeout(config),
      metadata_options: { forwarding_namespaces: { untyped: namespaces } },
    },
  };
}

function statusIs(code: string): Json {
  return responseHeader(":status", { exact: code });
}

/** Empty headers do not match. */
function has(name: string): Json {
  return responseHeader(name, { safe_regex: { google_re2: {}, regex: ".+" } });
}

function responseHeader(name: string, match: Json): Json {
  return {
    single_predicate: {
      input: {
        name,
        typed_config: {
          "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
          header_name: name,
        },
      },
      value_match: match,
    },
  };
}

const eventStream = responseHeader("content-type", { prefix: "text/event-stream", ignore_case: true });

/** Envoy matches all `Set-Cookie` headers as one text, so this may match other cookies; ext_proc decides. */
const ownSetCookie = responseHeader("set-cookie", { contains: "mcp_", ignore_case: true });

/** The check's metadata has a non-empty string under this name. */
function checkLeft(name: string): Json {
  return metadata(checked, [name], { string_match: { safe_regex: { regex: ".+" } } });
}

/** A filter's metadata has any value at this path. */
function present(filter: string, path: readonly string[]): Json {
  return metadata(filter, path, { present_match: true });
}

function metadata(filter: string, path: readonly string[], value: Json): Json {
  return {
    single_predicate: {
      input: {
        name: path.join("."),
        typed_config: {
          "@type": typeUrl("extensions.matching.common_inputs.network.v3.DynamicMetadataInput"),
          filter,
          path: path.map((key) => ({ key })),
        },
      },
      custom_match: {
        name: "present",
        typed_config: {
          "@type": typeUrl("extensions.matching.input_matchers.metadata.v3.Metadata"),
          value,
        },
      },
    },
  };
}
