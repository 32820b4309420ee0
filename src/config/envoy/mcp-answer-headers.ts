import type { Json } from "./json.ts";

/**
 * What an MCP server's answer cannot do to the host it shares with other MCP servers, perhaps with the issuer: run as a page, control pages as a service worker, change how browsers reach the host, or send their reports elsewhere. MCP clients read
 * none of these headers; CORS is ours (`check/cors.ts`), added after these are gone. What remains of `Set-Cookie` and
 * `Location` is the challenge filter's to rewrite.
 */
export const mcpAnswerHeaders: { readonly [key: string]: Json } = {
  response_headers_to_remove: [
    "set-cookie2",
    // Sessions that are bound to a device: the browser would ask the server before it sends requests of the host.
    "secure-session-registration",
    "sec-session-registration",
    "clear-site-data",
    "service-worker-allowed",
    "refresh",
    "link",
    "alt-svc",
    "strict-transport-security",
    "public-key-pins",
    "public-key-pins-report-only",
    "expect-ct",
    "accept-ch",
    "critical-ch",
    "nel",
    "report-to",
    "reporting-endpoints",
    "content-security-policy-report-only",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
    "timing-allow-origin",
  ],
  response_headers_to_add: [
    // Overwritten, not added to: a policy of the upstream's own could name where reports go.
    overwrite("content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"),
    overwrite("x-content-type-options", "nosniff"),
  ],
};

function overwrite(key: string, value: string): Json {
  return { header: { key, value }, append_action: "OVERWRITE_IF_EXISTS_OR_ADD" };
}
