/** By which proxies and identity providers tell a server behind them who calls: only we may say that. */
const prefixes = [
  "x-pomerium-",
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

/**
 * Whether a request header claims an identity. Underscores count as hyphens, because CGI-like servers read both alike.
 *
 * @param name in lower case.
 */
export function isIdentityHeader(name: string): boolean {
  const plain = name.includes("_") ? name.replaceAll("_", "-") : name;
  return identifying.has(plain) || prefixes.some((prefix) => plain.startsWith(prefix));
}

/** Set by Envoy itself, which overwrites or appends to what a client has sent. */
const envoys = new Set(["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
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
 * Whether a request header overriding another path, method, host or address than the request has: some servers go by it, and policy
 * has judged the request. Underscores count as hyphens.
 *
 * @param name in lower case.
 */
export function isOverrideHeader(name: string): boolean {
  const plain = name.includes("_") ? name.replaceAll("_", "-") : name;
  return overriding.has(plain) || (plain.startsWith("x-forwarded-") && !envoys.has(name));
}

/** A header name as RFC 9110 section 5.1 has it: no pseudo-header. */
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** What frames or routes a request, or keeps its connection: another value would make another request of it. */
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
/** What describes the body, what proxies tell each other, what MCP or the gateway itself says. */
const reserved = ["content-", "mcp-", "proxy-", "x-envoy-", "x-forwarded-", "x-pomerium-"];
const alsoReserved = new Set(["cookie", "cookie2", "dpop", "set-cookie"]);

/**
 * What is wrong with a header name as the place of a static credential; undefined: nothing. Underscores count as hyphens:
 * CGI-like servers read both alike.
 */
export function credentialHeaderFault(name: string): string | undefined {
  if (!token.test(name)) return `${JSON.stringify(name)} is not a header name`;
  const plain = name.toLowerCase().replaceAll("_", "-");
  if (framing.has(plain)) return `${name} frames or routes the request and cannot carry a credential`;
  if (alsoReserved.has(plain) || reserved.some((prefix) => plain.startsWith(prefix)))
    return `${name} is reserved and cannot carry a credential`;
  return undefined;
}

/** Whether a credential can be the value of a header: no control characters, which would end it (RFC 9110 section 5.5). */
export function isHeaderValue(value: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  return !/[\u0000-\u001f\u007f]/.test(value);
}

/** What HTTP and tracing need on the way to an MCP server. `mcp-*` passes, too. */
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
/** Envoy's own: they frame the message or belong to one connection. */
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
/** What we set ourselves, or never let through. */
const ours = new Set([
  "authorization",
  "cookie",
  "origin",
  "proxy-authenticate",
  "proxy-authorization",
  "dpop",
]);

/** Whether a request header goes to every MCP server. @param name in lower case */
export function passesToServers(name: string): boolean {
  return listed.has(name) || name.startsWith("mcp-");
}

/** Whether a header is Envoy's to keep or drop. @param name in lower case */
export function isFramingHeader(name: string): boolean {
  return framingHeaders.has(name);
}

/** Why `request_headers` may not name a header; undefined: it may. @param name in lower case */
export function requestHeaderFault(name: string, use: "pass" | "set"): string | undefined {
  if (isFramingHeader(name)) return `${name} frames the request and is set by Envoy`;
  if (ours.has(name) || name.startsWith("x-pomerium-")) return `${name} is set or removed by the gateway`;
  if (name.startsWith("x-envoy-")) return `${name} would control Envoy`;
  if (name.startsWith("x-forwarded-")) return `${name} identifies the client and is set by Envoy`;
  if (use === "pass" && isIdentityHeader(name))
    return `${name} claims an identity, and every client could send it`;
  return undefined;
}
