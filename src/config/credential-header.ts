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
