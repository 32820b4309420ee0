import {
  cookieForClient,
  isOwnCookie,
  maxCookieBytes,
  maxCookies,
  removesCookie,
} from "../config/cookies.ts";
import { namesSession, provenUpstreamPath } from "../config/paths.ts";
import type { RouteTable } from "../config/route-table.ts";
import { type PublicLocation, publicLocation } from "../config/upstream-urls.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import type { Route } from "../model/route.ts";
import type { ProcessingRequest, ProcessingResponse, UpstreamResponse } from "./protocol.ts";

/** Changes to a response's headers: headers to remove, and headers to add after that. */
export interface HeadChange {
  readonly remove: readonly string[];
  readonly set: readonly (readonly [name: string, value: string])[];
}
interface Deps {
  readonly table: Pick<RouteTable, "find" | "isOwnPath" | "config">;
  readonly metadataProofs: Pick<MetadataProofs, "proveUpstreamPath" | "cookiePrefixes">;
  /** The user who made the request: rewritten paths and cookies are valid for this user only. */
  readonly userId: string;
}

/**
 * Rewrites `Location`, `Content-Location` and `Set-Cookie` of an MCP server for its clients.
 *
 * @returns `elsewhere`: it redirects to a host other than those of `to` and `from`.
 */
export function rewrittenHead(
  deps: Deps,
  response: UpstreamResponse,
  route: Route,
): HeadChange | { readonly elsewhere: string } {
  const remove: string[] = [];
  const set: [string, string][] = [];
  const asked = response.metadata.path;
  const { location, setCookies } = response;
  const contentLocation = response.headers["content-location"];
  if (location.length > 0) {
    const [only = ""] = location;
    const redirects = response.status >= 300 && response.status < 400 && response.status !== 304;
    const url = location.length === 1 ? ourUrl(deps, route, asked, only, redirects) : undefined;
    if (url === undefined && redirects) return { elsewhere: only };
    remove.push("location");
    if (url !== undefined) set.push(["location", url]);
  }
  if (contentLocation !== undefined) {
    const url = ourUrl(deps, route, asked, contentLocation, false);
    remove.push("content-location");
    if (url !== undefined) set.push(["content-location", url]);
  }
  if (setCookies.length > 0) {
    remove.push("set-cookie");
    for (const cookie of passedCookies(deps, response, route)) set.push(["set-cookie", cookie]);
  }
  return { remove, set };
}

/**
 * The endpoint that a legacy stream's first event names, as a path of the gateway; undefined: it leads elsewhere. If the URL does
 * not contain a session, a separate path marks it, because POSTs to it are answered differently.
 *
 * @param asked path of the request that opened the stream.
 */
export function rewrittenEndpoint(
  deps: Deps,
  route: Route,
  asked: string,
  endpoint: string,
): string | undefined {
  const location = publicLocation(route, asked, endpoint, deps.table);
  if (location.kind === "elsewhere") return undefined;
  const hasSession = namesSession(location.rest.replace(/^\?/, ""));
  return pathOf(deps, route, hasSession ? location : { ...location, kind: "unmapped" });
}

/** Converts the change to a `ProcessingResponse`. */
export function headMutation({ remove, set }: HeadChange): ProcessingResponse {
  if (remove.length === 0 && set.length === 0) return { responseHeaders: {} };
  return {
    responseHeaders: {
      response: {
        headerMutation: {
          // Envoy removes before it adds.
          removeHeaders: remove,
          setHeaders: set.map(([key, value]) => ({
            header: { key, rawValue: Buffer.from(value, "latin1") },
            // ext_proc reads an `append_action` of 0, the default, as "overwrite".
            append: { value: true },
          })),
        },
      },
    },
  };
}

/** @param isFollowed the client follows this URL: only then does it get access to a path outside `to`. */
function ourUrl(
  deps: Deps,
  route: Route,
  asked: string,
  sent: string,
  isFollowed: boolean,
): string | undefined {
  // Header values have one character per byte.
  const location = publicLocation(route, asked, Buffer.from(sent, "latin1").toString("utf8"), deps.table);
  if (location.kind === "elsewhere" || (location.kind === "unmapped" && !isFollowed)) return undefined;
  return route.origin + pathOf(deps, route, location);
}

function pathOf(
  { metadataProofs, userId }: Deps,
  route: Route,
  { kind, path, rest, upstreamPath }: Exclude<PublicLocation, { kind: "elsewhere" }>,
): string {
  if (kind === "mapped") return path + rest;
  return (
    provenUpstreamPath(route, metadataProofs.proveUpstreamPath(route, userId, upstreamPath), upstreamPath) +
    rest
  );
}

/** On a host that several servers share, only responses that MCP clients read may set cookies; pages may not. */
function passedCookies(
  { metadataProofs, userId }: Deps,
  { metadata, headers, setCookies }: UpstreamResponse,
  route: Route,
): string[] {
  const type = headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  const mcp = type === "application/json" || type === "text/event-stream";
  if (metadata.cookies === "none" || (metadata.cookies === "typed" && !mcp)) return [];
  if (/html|xml/.test(type)) return [];
  const [prefix] = metadataProofs.cookiePrefixes(route, userId);
  if (prefix === undefined) return [];
  const passed: string[] = [];
  let bytes = 0;
  for (const setCookie of setCookies) {
    const cookie = cookieForClient(route, prefix, metadata.path, setCookie);
    if (cookie === undefined || (metadata.cookies === "removals" && !removesCookie(cookie))) continue;
    bytes += cookie.length;
    if (passed.length >= maxCookies || bytes > maxCookieBytes) break;
    passed.push(cookie);
  }
  return passed;
}

/**
 * Removes `Set-Cookie` headers for the gateway's own cookies from an application's response: the application could use them to
 * sign a browser in as another person. Other cookies keep their bytes and order. Needs no metadata and changes no state.
 *
 * @param message the response-headers message
 */
export function withoutOwnSetCookies(message: ProcessingRequest): ProcessingResponse {
  const headers = message.responseHeaders?.headers?.headers ?? [];
  const set = headers
    .filter(({ key }) => key?.toLowerCase() === "set-cookie")
    .map(({ value, rawValue }) => (rawValue?.length ? rawValue.toString("latin1") : (value ?? "")));
  const kept = set.filter((cookie) => !isOwnCookie(cookie));
  if (kept.length === set.length) return { responseHeaders: {} };
  return headMutation({ remove: ["set-cookie"], set: kept.map((cookie) => ["set-cookie", cookie]) });
}
