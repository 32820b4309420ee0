import { isOwnCookie } from "../config/cookies.ts";
import { upstreamQuery } from "../config/paths.ts";
import type { Route } from "../model/route.ts";
import type { Header } from "./decision.ts";
import { headerName } from "./header-names.ts";
import type { RequestFacts } from "./request.ts";

/** So many characters at a token's end tell it from any other: of a JWT they are its signature's. */
const tail = 48;

/**
 * Whether a text of the caller's holds a token, or the end of it. Never the whole token against the whole text: both are the
 * caller's to choose, and the search would take as long as the product of their lengths.
 */
export function holdsToken(text: string, token: string): boolean {
  return text.length >= tail && token.length > tail
    ? text.includes(token.slice(-tail))
    : token.length <= tail && text.includes(token);
}

/**
 * The Cookie header without our cookies; others keep their bytes and order. `undefined`: nothing is left.
 *
 * @param header one character per byte.
 */
export function stripCookies(header: string): string | undefined {
  const kept = pairs(header).filter((pair) => !isOwnCookie(pair));
  return kept.length === 0 ? undefined : kept.join("; ");
}

/** The Cookie header without what is not ASCII. */
export function asciiCookies(header: string): string {
  return pairs(header)
    .filter((pair) => /^[\t -~]*$/.test(pair))
    .join("; ");
}

/** Trimmed of ASCII's white space only: U+00A0 is also the last byte of an `à` in UTF-8. */
function pairs(header: string): string[] {
  return header
    .split(";")
    .map((pair) => pair.replace(/^[\t ]+|[\t ]+$/g, ""))
    .filter((pair) => pair !== "");
}

/**
 * What to set on, and remove from, a request on its way to an upstream: the credential and the assertion go in. An MCP server gets
 * what is listed and its own cookies; an application gets everything but our cookies, and headers that claim an identity, name another
 * request or steer Envoy. The external token goes out wherever it stands, as does an `Authorization` that nobody replaced.
 *
 * @param set lower-case names.
 * @param more.alsoRemove one more header.
 * @param more.cookies what an MCP server gets as `Cookie`
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
  // Envoy's route is chosen by now, by the path, which stays as it came.
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
        // What is set is text to Envoy, in UTF-8; what came is bytes.
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

/** Whether a client's header goes to a route's upstream, by its name. @param name in lower case */
export function passes(name: string, route: Route): boolean {
  const { identity, overrides, listed, framing, envoys } = headerName(name);
  if (framing) return true;
  if (identity || envoys) return false;
  if (route.mcp.kind === "client") return !overrides;
  if (listed) return true;
  // Servers guard against DNS rebinding by it, and know their own host only.
  if (name === "origin") return route.preserveHostHeader === true;
  return route.mcp.requestHeaders.pass.includes(name);
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text that a header's bytes (one character each) are in UTF-8; undefined: none. */
function inUtf8(bytes: string): string | undefined {
  if (/^[\t -~]*$/.test(bytes)) return bytes;
  try {
    return decoder.decode(Buffer.from(bytes, "latin1"));
  } catch {
    return undefined;
  }
}
