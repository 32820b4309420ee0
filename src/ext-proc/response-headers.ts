import {
  cookieForClient,
  isOwnCookie,
  mostCookieBytes,
  mostCookies,
  removesCookie,
} from "../config/cookies.ts";
import { besidePath, namesSession } from "../config/paths.ts";
import type { RouteTable } from "../config/route-table.ts";
import { type UpstreamPlace, upstreamPlace } from "../config/upstream-urls.ts";
import type { MetadataProofs } from "../external-tokens/metadata-proofs.ts";
import type { Route } from "../model/route.ts";
import type { ProcessingRequest, ProcessingResponse } from "./protocol.ts";
import type { UpstreamResponse } from "./upstream-response.ts";

/** What of an answer's head changes: headers that go, and what comes in place of some of them. */
export interface HeadChange {
  readonly remove: readonly string[];
  readonly set: readonly (readonly [name: string, value: string])[];
}
interface Deps {
  readonly table: Pick<RouteTable, "find" | "isOwnPath" | "config">;
  readonly metadataProofs: Pick<MetadataProofs, "proveUpstreamPath" | "cookiePrefixes">;
  /** Who asked, and nobody else may use what is made of the answer. */
  readonly userId: string;
}

/**
 * `Location`, `Content-Location` and `Set-Cookie` of an MCP server as its clients can use them.
 *
 * @returns `elsewhere`: it redirects to another host than those of `to` and `from`.
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
 * The endpoint that a legacy stream's first event names, as a path of ours; undefined: it leads elsewhere. Where the URL does not
 * show that it is a session's, the path does: the answers to what is posted there differ.
 *
 * @param asked path of the request for the stream.
 */
export function rewrittenEndpoint(
  deps: Deps,
  route: Route,
  asked: string,
  endpoint: string,
): string | undefined {
  const place = upstreamPlace(route, asked, endpoint, deps.table);
  if (place.kind === "elsewhere") return undefined;
  const shows = namesSession(place.rest.replace(/^\?/, ""));
  return pathOf(deps, route, shows ? place : { ...place, kind: "beside" });
}

/** In the form in which `ProcessingResponse` carries it. */
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
            // ext_proc takes `append_action` of 0, its default, for "overwrite".
            append: { value: true },
          })),
        },
      },
    },
  };
}

/** @param leads a client is sent there: only then is a place outside of `to` opened for it. */
function ourUrl(deps: Deps, route: Route, asked: string, sent: string, leads: boolean): string | undefined {
  // A header's bytes came one character each.
  const place = upstreamPlace(route, asked, Buffer.from(sent, "latin1").toString("utf8"), deps.table);
  if (place.kind === "elsewhere" || (place.kind === "beside" && !leads)) return undefined;
  return route.origin + pathOf(deps, route, place);
}

function pathOf(
  { metadataProofs, userId }: Deps,
  route: Route,
  { kind, path, rest, upstreamPath }: Exclude<UpstreamPlace, { kind: "elsewhere" }>,
): string {
  if (kind === "ours") return path + rest;
  return (
    besidePath(route, metadataProofs.proveUpstreamPath(route, userId, upstreamPath), upstreamPath) + rest
  );
}

/** Pages set no cookies: on a host that several servers share, only what MCP clients read may. */
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
    if (passed.length >= mostCookies || bytes > mostCookieBytes) break;
    passed.push(cookie);
  }
  return passed;
}

/**
 * Takes `Set-Cookie` headers that name a cookie of ours out of an application's answer: with one, it could sign a browser
 * in as somebody else. The others keep their bytes and order. Needs nothing of what the check left, and changes no state.
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
