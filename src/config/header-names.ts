/**
 * The signed header with which the check sends a call to the gateway's HTTP port, which asks for the user's consent. Envoy removes a
 * client's own. Also the key of gRPC metadata by which an Envoy says that its listener selects the route again after a check that sets
 * this header; without it, the call would reach the upstream.
 */
export const consentHeader = "x-mcp-auth-consent";

/**
 * On a 503 of the gateway in place of an upstream's 401 or 403: the upstream has rejected the request unseen, and another credential is
 * ready. The aggregated endpoint repeats the request at once. Signed, because upstreams can send headers of this name, too.
 */
export const retryHeader = "x-mcp-auth-retry";

/** Headers in which proxies and identity providers send the identity of the caller: only the gateway may set them. */
const prefixes = [
  "x-pomerium-",
  "x-mcp-auth-",
  "x-auth-request-",
  "x-authenticated-",
  "x-webauth-",
  "x-remote-",
  "x-auth-user",
  "x-auth-email",
  "x-auth-name",
  "x-auth-groups",
  "x-auth-roles",
  "x-auth-subject",
  "x-consumer-",
  "x-credential-",
  "x-anonymous-consumer",
  "x-userinfo",
  "x-user-",
  "x-jwt-",
  "x-oidc-",
  "oidc-claim-",
  "x-id-token",
  "x-access-token",
  "x-endpoint-api-userinfo",
  "x-apigateway-api-userinfo",
  "x-forwarded-tls-client-cert",
  "x-client-cert",
  "x-client-verify",
  "x-client-dn",
  "x-ssl-client-",
  "x-ssl-cert",
  "ssl-client-",
  "client-cert",
  "x-arr-clientcert",
  "remote-",
  "x-goog-authenticated-user-",
  "x-goog-iap-",
  "x-amzn-oidc-",
  "x-ms-client-principal",
  "x-ms-token-",
  "x-vouch-",
  "x-authentik-",
  "x-forwarded-user",
  "x-forwarded-email",
  "x-forwarded-groups",
  "x-forwarded-preferred-username",
  "x-forwarded-access-token",
  "x-forwarded-id-token",
  "cf-access-",
  "tailscale-user-",
];
const identifying = new Set([
  "proxy-authorization",
  "x-forwarded-client-cert",
  "dpop",
  "x-user",
  "x-username",
  "x-email",
  "x-groups",
  "x-roles",
]);

/** A header's name as CGI-like servers read it, which do not distinguish underscores and hyphens. @param name in lower case */
export function plainName(name: string): string {
  return name.includes("_") ? name.replaceAll("_", "-") : name;
}

/**
 * Whether a request header claims an identity. Underscores count as hyphens, because CGI-like servers read both alike.
 *
 * @param name in lower case.
 */
export function isIdentityHeader(name: string): boolean {
  const plain = plainName(name);
  return identifying.has(plain) || prefixes.some((prefix) => plain.startsWith(prefix));
}

/** Set by Envoy, which overwrites or extends the client's value. */
const setByEnvoy = new Set(["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
const overriding = new Set([
  "cf-connecting-ip",
  "fastly-client-ip",
  "forwarded",
  "front-end-https",
  "true-client-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "x-host",
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-host",
  "x-original-method",
  "x-original-uri",
  "x-original-url",
  "x-real-ip",
  "x-rewrite-url",
]);

/**
 * Whether a request header overrides the path, method, host or address of the request: some servers use it, but policy decided about
 * the request itself. Underscores count as hyphens.
 *
 * @param name in lower case.
 */
export function isOverrideHeader(name: string): boolean {
  const plain = plainName(name);
  return overriding.has(plain) || (plain.startsWith("x-forwarded-") && !setByEnvoy.has(name));
}

/** A header name (RFC 9110 section 5.1), not a pseudo-header. */
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Headers that frame or route a request, or control its connection: another value would change the request. */
const framing = new Set([
  "connection",
  "expect",
  "forwarded",
  "host",
  "http2-settings",
  "keep-alive",
  "te",
  "trailer",
  "trailers",
  "transfer-encoding",
  "upgrade",
  "via",
]);
/** A constant value would make the server answer something other than the client asked for, or than the gateway can read. */
const negotiating = new Set(["accept", "accept-encoding", "last-event-id", "range"]);
/** Headers of the body, of proxies, of MCP and of the gateway. */
const reserved = ["content-", "mcp-", "proxy-", "x-envoy-", "x-forwarded-", "x-mcp-auth-", "x-pomerium-"];
const alsoReserved = new Set(["cookie", "cookie2", "dpop", "set-cookie"]);

/** `former`: those that a route was stored under before there were more; it keeps working until its settings are changed. */
export type HeaderRules = "all" | "former";

/**
 * Why a header cannot carry a static credential; undefined if it can. Underscores count as hyphens, because CGI-like servers read both
 * alike.
 */
export function credentialHeaderFault(name: string, rules: HeaderRules = "all"): string | undefined {
  if (!token.test(name)) return `${JSON.stringify(name)} is not a header name`;
  const plain = name.toLowerCase().replaceAll("_", "-");
  if (framing.has(plain)) return `${name} frames or routes the request and cannot carry a credential`;
  if (alsoReserved.has(plain) || reserved.some((prefix) => plain.startsWith(prefix)))
    return `${name} is reserved and cannot carry a credential`;
  if (rules === "all" && negotiating.has(plain))
    return `${name} is about the response and cannot carry a credential`;
  return undefined;
}

/** Identity headers of other proxies in which a claim may be sent, although others that begin alike are reserved. */
const claimPrefixes = ["x-pomerium-claim-", "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups"];
const claimNames = new Set(["x-forwarded-preferred-username"]);

/** Why a claim cannot be sent in a header; undefined if it can. Underscores count as hyphens. */
export function claimHeaderFault(name: string): string | undefined {
  if (!token.test(name) || name.length > 64) return `${JSON.stringify(name)} is not a header name`;
  const plain = plainName(name.toLowerCase());
  if (claimNames.has(plain) || claimPrefixes.some((prefix) => plain.startsWith(prefix))) return undefined;
  const taken =
    credentialHeaderFault(name) !== undefined ||
    ownHeaders.has(plain) ||
    isFramingHeader(plain) ||
    passesToServers(plain) ||
    isOverrideHeader(plain);
  return taken ? `${name} has another meaning and cannot carry a claim` : undefined;
}

/** Whether a credential is a valid header value: without control characters (RFC 9110 section 5.5). */
export function isHeaderValue(value: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are rejected here
  return !/[\u0000-\u001f\u007f]/.test(value);
}

/** Headers of HTTP and tracing that MCP servers get, in addition to `mcp-*`. */
const listed = new Set([
  "accept",
  "accept-encoding",
  "accept-language",
  "baggage",
  "cache-control",
  "content-encoding",
  "content-language",
  "content-type",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-unmodified-since",
  "last-event-id",
  "pragma",
  "traceparent",
  "tracestate",
  "user-agent",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-request-id",
]);
/** Managed by Envoy: they frame the message or belong to one connection. Not passed on, whatever the routes file says. */
const framingHeaders = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** Set by the gateway, or never passed. */
const ownHeaders = new Set([
  "authorization",
  "cookie",
  "origin",
  "proxy-authenticate",
  "proxy-authorization",
  "dpop",
  "set-cookie",
  "cookie2",
]);

/** Whether every MCP server gets this request header. @param name in lower case */
export function passesToServers(name: string): boolean {
  return listed.has(name) || name.startsWith("mcp-");
}

/** Whether Envoy manages a header. @param name in lower case */
export function isFramingHeader(name: string): boolean {
  return framingHeaders.has(name);
}

/**
 * Why `request_headers` must not contain a header; undefined if it may. Underscores count as hyphens, because CGI-like servers read both
 * alike.
 *
 * @param name in lower case
 */
export function requestHeaderFault(
  name: string,
  use: "pass" | "set",
  rules: HeaderRules = "all",
): string | undefined {
  const all = rules === "all";
  if (all && !token.test(name)) return `${JSON.stringify(name)} is not a header name`;
  const plain = all ? plainName(name) : name;
  if (isFramingHeader(plain) || (all && framing.has(plain) && plain !== "forwarded"))
    return `${name} frames the request and is set by Envoy`;
  if (ownHeaders.has(plain) || plain.startsWith("x-pomerium-") || plain.startsWith("x-mcp-auth-"))
    return `${name} is set or removed by the gateway`;
  if (plain.startsWith("x-envoy-")) return `${name} would control Envoy`;
  if (plain.startsWith("x-forwarded-")) return `${name} identifies the client and is set by Envoy`;
  if (use === "set") return undefined;
  if (isIdentityHeader(name)) return `${name} claims an identity, and every client could send it`;
  if (all && isOverrideHeader(name))
    return `${name} overrides what policy has decided about: the path, the method or the client's address`;
  return undefined;
}

/** CORS of every response on an MCP route: MCP clients in browsers must be able to read it, a challenge included. */
export const mcpCors = [
  ["access-control-allow-origin", "*"],
  ["access-control-expose-headers", "WWW-Authenticate, MCP-Session-Id"],
] as const;
