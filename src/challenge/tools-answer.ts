import { byteBuffer } from "../policy/byte-buffer.ts";
import { createToolsStreamFilter } from "../policy/create-tools-stream-filter.ts";
import { type Filtered, filterToolsJson } from "../policy/filter-tools-json.ts";
import { type MayShow, readToolFilter } from "../policy/read-tool-filter.ts";
import { toolsAnswerFormat } from "../policy/tools-answer-format.ts";
import type { UpstreamResponse } from "./upstream-response.ts";

/** A list of tools, or one event of a stream on which lists may come, bytes. */
const maxListBytes = 2 * 1024 * 1024;

/** Takes what a caller may not see out of a body, piece by piece. */
export interface FilterTools {
  /** What of the body may go to the client with this piece; the rest waits for the next. */
  readonly filter: (chunk: Uint8Array, isLast: boolean) => Filtered;
  /** Bytes of memory that what waits takes. */
  readonly held: () => number;
}

/**
 * How to filter the answer to a `tools/list`, or a stream that may carry one (F6.2, F8.15).
 *
 * @param toolFilter what policy has left with the request.
 */
export function filterTools(
  response: UpstreamResponse,
  toolFilter: string,
): FilterTools | "none" | "unreadable" {
  const format = toolsAnswerFormat(response.status, response.headers);
  if (format === "none" || format === "unreadable") return format;
  const mayShow = readToolFilter(toolFilter);
  return format === "json" ? wholeList(mayShow) : eventStream(mayShow);
}

/** Nothing of a list goes out before its end has come. */
function wholeList(mayShow: MayShow): FilterTools {
  const held = byteBuffer();
  return {
    held: held.room,
    filter(chunk, isLast) {
      if (held.length() + chunk.length > maxListBytes) return { ok: false };
      if (isLast) return filterToolsJson(held.takeWith(chunk), mayShow);
      held.append(chunk);
      return { ok: true, body: Buffer.alloc(0) };
    },
  };
}

/** Each event goes out when it is complete. */
function eventStream(mayShow: MayShow): FilterTools {
  const stream = createToolsStreamFilter(mayShow, maxListBytes);
  return {
    held: stream.waiting,
    filter(chunk, isLast) {
      const pushed = stream.push(chunk);
      if (!isLast || !pushed.ok) return pushed;
      const rest = stream.end();
      return rest.ok ? { ok: true, body: Buffer.concat([pushed.body, rest.body]) } : rest;
    },
  };
}
