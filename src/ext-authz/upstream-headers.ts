import { isOwnCookie } from "../config/cookies.ts";
import { plainName } from "../config/header-names.ts";
import { upstreamQuery } from "../config/paths.ts";
import type { Route } from "../model/route.ts";
import type { Header } from "./decision.ts";
import { headerName, type RequestFacts } from "./request.ts";

/** Number of characters at a token's end that identify it: in a JWT they are part of the signature. */
const tail = 48;

/**
 * Whether a text from the caller contains a token, or the end of it. Never searches for the whole token in the whole text: the
 * caller controls both, and the search could take time proportional to the product of their lengths.
 */
export function holdsToken(text: string, token: string): boolean {
  return text.length >= tail && token.length > tail
    ? text.includes(token.slice(-tail))
    : token.length <= tail && text.includes(token);
}

/**
 * The Cookie header without the gateway's cookies; others keep their bytes and order. `undefined`: nothing is left.
 *
 * @param header one character per byte.
 */
export function stripCookies(header: string): string | undefined {
  const kept = pairs(header).filter((pair) => !isOwnCookie(pair));
  return kept.length === 0 ? undefined : kept.join("; ");
}

/** The Cookie header without non-ASCII cookies. */
export function asciiCookies(header: string): string {
  return pairs(header)
    .filter((pair) => /^[\t -~]*$/.test(pair))
    .join("; ");
}

/** Trims ASCII white space only: U+00A0 is also the last byte of `à` in UTF-8. */
function pairs(header: string): string[] {
  return header
    .split(";")
    .map((pair) => pair.replace(/^[\t ]+|[\t ]+$/g, ""))
    .filter((pair) => pair !== "");
}

/**
 * The headers to set on and remove from a request to an upstream. Sets the credential and the assertion. An MCP server gets the
 * listed headers and its own cookies. An application gets everything except the gateway's cookies and headers that claim an
 * identity, name another request or control Envoy. The external token is removed wherever it occurs, as is an `Authorization`
 * that is not replaced.
 *
 * @param set lower-case names.
 * @param options.alsoRemove one more header to remove.
 * @param options.cookies the `Cookie` header for an MCP server
 */
export function upstreamHeaders(
  facts: RequestFacts,
  set: readonly Header[],
  route: Route,
  { alsoRemove, cookies }: { readonly alsoRemove?: string; readonly cookies?: string } = {},
): { readonly setHeaders: readonly Header[]; readonly removeHeaders: readonly string[] } {
  const { headers, headerNames, presented } = facts;
  const token = presented.kind === "bearer" ? presented.token : undefined;
  const toServer = route.mcp.kind === "server";
  const setHeaders = [...set];
  // Envoy has already selected its route, by the path, which stays unchanged.
  if (route.upstreamQuery)
    setHeaders.push([":path", `${facts.sentPath}?${upstreamQuery(route.upstreamQuery, facts.query)}`]);
  const removeHeaders: string[] = [];
  for (const name of headerNames) {
    if (set.some((header) => header[0] === name)) continue;
    const value = headers[name] ?? "";
    if (name === "cookie") {
      const kept = toServer ? cookies : stripCookies(value);
      if (kept === undefined || (token !== undefined && holdsToken(kept, token))) removeHeaders.push(name);
      else if (kept !== value) {
        // Envoy takes header values to set as UTF-8 text; the received value is bytes.
        const text = inUtf8(kept) ?? inUtf8(asciiCookies(kept));
        if (text === undefined || text === "") removeHeaders.push(name);
        else setHeaders.push([name, text]);
      }
    } else if (
      name === "authorization" ||
      name === alsoRemove ||
      !passes(name, route) ||
      (toServer && facts.opaque.includes(name)) ||
      (token !== undefined && holdsToken(value, token))
    ) {
      removeHeaders.push(name);
    }
  }
  return { setHeaders, removeHeaders };
}

/** Whether a client's header is passed to a route's upstream. @param name in lower case */
export function passes(name: string, route: Route): boolean {
  const { identity, overrides, listed, framing, controlsEnvoy } = headerName(name);
  if (framing) return true;
  if (identity || controlsEnvoy || route.claimHeaders?.names.has(plainName(name))) return false;
  if (route.mcp.kind === "client") return !overrides;
  if (listed) return true;
  // Servers check it against DNS rebinding, and know only their own host.
  if (name === "origin") return route.preserveHostHeader === true;
  return route.mcp.requestHeaders.pass.includes(name);
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes a header's bytes (one character each) as UTF-8; undefined: invalid. */
function inUtf8(bytes: string): string | undefined {
  if (/^[\t -~]*$/.test(bytes)) return bytes;
  try {
    return decoder.decode(Buffer.from(bytes, "latin1"));
  } catch {
    return undefined;
  }
}
