import { createParser } from "eventsource-parser";
import type { Route } from "../config/route.ts";
import type { RouteTable } from "../config/route-table.ts";
import { upstreamPlace } from "../config/upstream-places.ts";
import type { ProbeResponse } from "./follow-own-redirects.ts";
import { type ProbeAnswer, readProbeAnswer } from "./probe-answer.ts";

/** How a client of the legacy HTTP+SSE transport begins (MCP 2024-11-05). */
export const streamHeaders = { accept: "text/event-stream", "accept-encoding": "identity" } as const;

/** Whether an answer to a POST may be that of a server that takes none at this URL: a legacy one has its client post elsewhere. */
export function takesNoPost(status: number): boolean {
  return [404, 405, 410, 501].includes(status);
}

export function isEventStream({ status, headers }: Pick<Response, "status" | "headers">): boolean {
  const type = headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  return status >= 200 && status < 300 && type === "text/event-stream";
}

/**
 * Reads an answer to a GET for an event stream, after a POST that nothing took.
 *
 * @param posted status of the answer to the POST
 * @returns undefined: it says no more than that answer
 */
export function readStreamAnswer(
  posted: number,
  answer: Parameters<typeof readProbeAnswer>[0] & Pick<Response, "headers">,
): ProbeAnswer | undefined {
  if (isEventStream(answer))
    return {
      meaning: "open",
      finding: `is a legacy HTTP+SSE server: it takes no POST here (${posted}), and opens an event stream without a token`,
    };
  const read = readProbeAnswer(answer);
  return read.meaning === "token_wanted" ? read : undefined;
}

/**
 * Reads a stream up to its first `endpoint` event, which names where messages are posted (WHATWG HTML 9.2.6).
 *
 * @returns takes each piece, in order, and gives the event's data once it is complete.
 */
export function endpointReader(): (piece: Uint8Array) => string | undefined {
  const decoder = new TextDecoder();
  let endpoint: string | undefined;
  const parser = createParser({
    onEvent({ event, data }) {
      if (event?.trim() === "endpoint" && data.trim() !== "") endpoint ??= data.trim();
    },
  });
  return (piece) => {
    parser.feed(decoder.decode(piece, { stream: true }));
    return endpoint;
  };
}

/**
 * Where an `endpoint` event sends clients, and whether the gateway passes it on.
 *
 * @param asked URL of the stream
 * @param response the answer that opened it
 * @returns `place` without its query, in which servers name the session
 */
export function endpointPlace(
  route: Route,
  table: Pick<RouteTable, "find" | "isOwnPath" | "config">,
  asked: string,
  { redirectedTo }: Pick<ProbeResponse, "redirectedTo">,
  endpoint: string,
): { readonly place: string; readonly isElsewhere: boolean } {
  const url = URL.parse(endpoint, redirectedTo ?? asked);
  if (url === null) return { place: "something that is not a URL", isElsewhere: true };
  const { kind } = upstreamPlace(route, route.prefix, url.href, table);
  const place = /^https?:$/.test(url.protocol) ? url.origin + url.pathname : url.protocol;
  return { place: place.slice(0, 512), isElsewhere: kind === "elsewhere" };
}
