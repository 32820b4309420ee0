import type { Route } from "../config/route.ts";
import { namesSession, readBesidePath } from "../config/upstream-path.ts";
import type { RequestFacts } from "./request-facts.ts";

/** Whether an answer may be a stream of HTTP+SSE, which begins with it; those of Streamable HTTP name their session, where there is one. */
export function mayBeLegacyStream({ method, headers }: RequestFacts): boolean {
  return method === "GET" && headers["mcp-session-id"] === undefined;
}

/**
 * Whether a request is a message of the legacy HTTP+SSE transport. Its place is one that the stream's first event has named: beside
 * `to`, or with the session in its query; Streamable HTTP accepts event streams and names a session in a header.
 */
export function isLegacyPost({ method, path, query, headers }: RequestFacts, route: Route): boolean {
  if (method !== "POST" || headers["mcp-session-id"] !== undefined) return false;
  if (readBesidePath(route, path) !== undefined) return true;
  return namesSession(query) && !/\btext\/event-stream\b/i.test(headers.accept ?? "");
}
