import { createParser } from "eventsource-parser";
import type { RouteTable } from "../config/route-table.ts";
import { publicLocation } from "../config/upstream-urls.ts";
import type { Route } from "../model/route.ts";
import { type ProbeAnswer, type ProbeResponse, readProbeAnswer } from "./probe.ts";

/** Headers of the first request of the legacy HTTP+SSE transport (MCP 2024-11-05). */
export const streamHeaders = { accept: "text/event-stream", "accept-encoding": "identity" } as const;

/** Whether a response to a POST may mean that the URL does not accept POST: clients of a legacy server post to another URL. */
export function takesNoPost(status: number): boolean {
  return [404, 405, 410, 501].includes(status);
}

export function isEventStream({ status, headers }: Pick<Response, "status" | "headers">): boolean {
  const type = headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  return status >= 200 && status < 300 && type === "text/event-stream";
}

/**
 * Reads the response to a GET for an event stream, after a POST that was not accepted.
 *
 * @param posted status of the response to the POST
 * @returns undefined if it adds nothing to that response
 */
export function readStreamAnswer(
  posted: number,
  answer: Parameters<typeof readProbeAnswer>[0] & Pick<Response, "headers">,
): ProbeAnswer | undefined {
  if (isEventStream(answer))
    return {
      meaning: "open",
      finding: `is a legacy HTTP+SSE server: it does not accept POST here (${posted}), and opens an event stream without a token`,
    };
  const read = readProbeAnswer(answer);
  return read.meaning === "token_wanted" ? read : undefined;
}

export interface StreamEvent {
  readonly type: string;
  readonly data: string;
}
/** The events of a stream, for one reader. */
export interface EventReader {
  /**
   * The first defined result of `read` for the next events, within the time limit. If there is none, `isLate` says whether the time limit was
   * reached, or else the end of the stream or the size limit; nothing more is read then.
   */
  next<T>(
    read: (event: StreamEvent) => T | undefined,
  ): Promise<{ readonly made: T } | { readonly made?: undefined; readonly isLate: boolean }>;
  /** Ends the stream. */
  end(): Promise<void>;
}

/**
 * Reads the events of a stream (WHATWG HTML 9.2.6).
 *
 * @param limits.timeoutMs for each `next`, ms
 * @param limits.maxResponseBytes for all events together, bytes
 */
export function readEvents(
  body: ReadableStream<Uint8Array>,
  { timeoutMs, maxResponseBytes }: { readonly timeoutMs: number; readonly maxResponseBytes: number },
): EventReader {
  const received: StreamEvent[] = [];
  const parser = createParser({
    onEvent: ({ event, data }) => void received.push({ type: event?.trim() || "message", data: data.trim() }),
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  const end = () => reader.cancel().catch(() => {});
  let left = maxResponseBytes;
  return {
    async next(read) {
      let isLate = false;
      const timer = setTimeout(() => {
        isLate = true;
        void end();
      }, timeoutMs);
      try {
        for (;;) {
          for (let event = received.shift(); event !== undefined; event = received.shift()) {
            const made = read(event);
            if (made !== undefined) return { made };
          }
          if (left <= 0) return { isLate: false };
          // A broken stream counts as ended.
          const { value } = await reader.read().catch(() => ({ value: undefined }));
          if (value === undefined) return { isLate };
          parser.feed(decoder.decode(value.subarray(0, left), { stream: true }));
          left -= value.byteLength;
        }
      } finally {
        clearTimeout(timer);
      }
    },
    end,
  };
}

/**
 * The URL that an `endpoint` event sends clients to, and whether the gateway passes it on.
 *
 * @param asked URL of the stream
 * @param response the response that opened it
 * @returns `shownUrl` without its query, which holds the session id; `postTo`: the URL at the upstream, absent if the gateway does not pass
 * it on
 */
export function endpointLocation(
  route: Route,
  table: Pick<RouteTable, "find" | "isOwnPath" | "config">,
  asked: string,
  { redirectedTo }: Pick<ProbeResponse, "redirectedTo">,
  endpoint: string,
): { readonly shownUrl: string; readonly postTo?: string } {
  const url = URL.parse(endpoint, redirectedTo ?? asked);
  if (url === null) return { shownUrl: "something that is not a URL" };
  const found = publicLocation(route, route.prefix, url.href, table);
  const shownUrl = (/^https?:$/.test(url.protocol) ? url.origin + url.pathname : url.protocol).slice(0, 512);
  if (found.kind === "elsewhere") return { shownUrl };
  return { shownUrl, postTo: new URL(asked).origin + found.upstreamPath + url.search };
}
