import { createToolsStreamFilter } from "../policy/create-tools-stream-filter.ts";
import { type Filtered, filterToolsJson } from "../policy/filter-tools-json.ts";
import { readToolFilter } from "../policy/read-tool-filter.ts";
import { toolsAnswerFormat } from "../policy/tools-answer-format.ts";
import type { UpstreamResponse } from "./upstream-response.ts";

/** One event of a stream on which lists of tools may come, bytes. */
const maxEventBytes = 1024 * 1024;

/** Takes what a caller may not see out of a body. */
export interface FilterTools {
  /** The body comes in one piece; else chunk by chunk. */
  readonly whole: boolean;
  readonly filter: (chunk: Uint8Array, isLast: boolean) => Filtered;
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
  if (format === "json") return { whole: true, filter: (body) => filterToolsJson(body, mayShow) };
  const stream = createToolsStreamFilter(mayShow, maxEventBytes);
  return {
    whole: false,
    filter(chunk, isLast) {
      const pushed = stream.push(chunk);
      if (!isLast || !pushed.ok) return pushed;
      const rest = stream.end();
      return rest.ok ? { ok: true, body: Buffer.concat([pushed.body, rest.body]) } : rest;
    },
  };
}
