import { createParser } from "eventsource-parser";
import type { RouteTable } from "../config/route-table.ts";
import { upstreamPlace } from "../config/upstream-urls.ts";
import type { Route } from "../model/route.ts";
import { type ProbeAnswer, type ProbeResponse, readProbeAnswer } from "./probe.ts";

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
   * What `read` makes of the next event that it makes something of, within the time limit. Where none came: whether it is the time that
   * is up, or the stream, or the limit of its size, that has ended; nothing more is read then.
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
 * @param limits.timeoutMs of each `next`, ms
 * @param limits.maxResponseBytes of all events together, bytes
 */
export function readEvents(
  body: ReadableStream<Uint8Array>,
  { timeoutMs, maxResponseBytes }: { readonly timeoutMs: number; readonly maxResponseBytes: number },
): EventReader {
  const come: StreamEvent[] = [];
  const parser = createParser({
    onEvent: ({ event, data }) => void come.push({ type: event?.trim() || "message", data: data.trim() }),
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
          for (let event = come.shift(); event !== undefined; event = come.shift()) {
            const made = read(event);
            if (made !== undefined) return { made };
          }
          if (left <= 0) return { isLate: false };
          // A stream that breaks has ended.
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
 * Where an `endpoint` event sends clients, and whether the gateway passes it on.
 *
 * @param asked URL of the stream
 * @param response the answer that opened it
 * @returns `place` without its query, in which servers name the session; `postTo`: where that is at the upstream that was asked, absent
 * where the gateway does not pass it on
 */
export function endpointPlace(
  route: Route,
  table: Pick<RouteTable, "find" | "isOwnPath" | "config">,
  asked: string,
  { redirectedTo }: Pick<ProbeResponse, "redirectedTo">,
  endpoint: string,
): { readonly place: string; readonly postTo?: string } {
  const url = URL.parse(endpoint, redirectedTo ?? asked);
  if (url === null) return { place: "something that is not a URL" };
  const found = upstreamPlace(route, route.prefix, url.href, table);
  const place = (/^https?:$/.test(url.protocol) ? url.origin + url.pathname : url.protocol).slice(0, 512);
  if (found.kind === "elsewhere") return { place };
  return { place, postTo: new URL(asked).origin + found.upstreamPath + url.search };
}
