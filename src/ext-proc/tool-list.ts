import { byteBuffer, createToolsStreamFilter } from "../policy/event-stream-filter.ts";
import type { JsonRpcId } from "../policy/policy.ts";
import {
  type Filtered,
  filterToolsJson,
  type MayShow,
  readToolFilter,
  toolsAnswerFormat,
} from "../policy/tool-list-filter.ts";
import type { UpstreamResponse } from "./protocol.ts";

/** Filters a body chunk by chunk. */
export interface BodyFilter {
  /** Returns the part of the body that may be sent now; the rest waits for the next chunk. */
  readonly filter: (chunk: Uint8Array, isLast: boolean) => Piece;
  /** Memory of the waiting part, bytes. */
  readonly held: () => number;
  /** The rest of the body passes unfiltered. */
  readonly done: () => boolean;
}
/** `endpoint`: a legacy stream names an endpoint elsewhere. */
export type Piece = Filtered | { readonly ok: false; readonly reason: "endpoint" };

/**
 * How to filter the response to a `tools/list` request, or a stream that may contain one.
 *
 * @param toolFilter from the request's metadata.
 * @param maxBytes limit for a list or one event; a longer one becomes a JSON-RPC error.
 */
export function filterTools(
  response: UpstreamResponse,
  toolFilter: string,
  maxBytes: number,
): BodyFilter | "none" | "unreadable" {
  const format = toolsAnswerFormat(response.status, response.headers);
  if (format === "none" || format === "unreadable") return format;
  const mayShow = readToolFilter(toolFilter);
  const error = (id: JsonRpcId | null) => tooLong(id, maxBytes, response.metadata.requestId);
  const { listId } = response.metadata;
  if (format === "json") return wholeList(mayShow, maxBytes, () => error(listId ?? null));
  return eventStream(mayShow, maxBytes, (beginning, end) => error(listId ?? idIn(beginning, end)));
}

/** Chains two filters; undefined if there is none. */
export function inTurn(first: BodyFilter | undefined, then: BodyFilter | undefined): BodyFilter | undefined {
  if (!first || !then) return first ?? then;
  return {
    held: () => first.held() + then.held(),
    done: () => first.done() && then.done(),
    filter(chunk, isLast) {
      const passed = first.filter(chunk, isLast);
      return passed.ok ? then.filter(passed.body, isLast) : passed;
    },
  };
}

/** Holds a list until it is complete. */
function wholeList(mayShow: MayShow, maxBytes: number, error: () => string): BodyFilter {
  const held = byteBuffer();
  let dropped = false;
  return {
    // A dropped list is subject to the timeout, too.
    held: () => (dropped ? 1 : held.capacity()),
    done: () => false,
    filter(chunk, isLast) {
      dropped ||= held.length() + chunk.length > maxBytes;
      if (dropped) held.takeWith(Buffer.alloc(0));
      if (isLast)
        return dropped
          ? { ok: true, body: Buffer.from(error()) }
          : filterToolsJson(held.takeWith(chunk), mayShow);
      if (!dropped) held.append(chunk);
      return { ok: true, body: Buffer.alloc(0) };
    },
  };
}

/** Sends each event when it is complete. */
function eventStream(
  mayShow: MayShow,
  maxBytes: number,
  error: (beginning: string, end: string) => string,
): BodyFilter {
  const stream = createToolsStreamFilter(mayShow, maxBytes, error);
  return {
    held: stream.waiting,
    done: () => false,
    filter(chunk, isLast) {
      const pushed = stream.push(chunk);
      if (!isLast || !pushed.ok) return pushed;
      const rest = stream.end();
      return rest.ok ? { ok: true, body: Buffer.concat([pushed.body, rest.body]) } : rest;
    },
  };
}

/** JSON-RPC's internal error: the call may have succeeded, but its result cannot be passed on. */
function tooLong(id: JsonRpcId | null, maxBytes: number, requestId: string): string {
  const message = `The server's list of tools is longer than the gateway's limits.tool_list_bytes (${maxBytes} bytes).`;
  const data = { request_id: requestId, reason: "tools_list_too_long" };
  return JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32603, message, data } });
}

/** The id of a message, before its result or at its end; null if it is not found. */
function idIn(beginning: string, end: string): JsonRpcId | null {
  const inFront = beginning.split(/"result"\s*:/, 1)[0] ?? "";
  const found = /"id"\s*:\s*("[^"\\]{0,256}"|-?\d{1,15})\s*[,}]/.exec(inFront)?.[1];
  const last =
    found ??
    /\}\s*,\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*("[^"\\]{0,256}"|-?\d{1,15})\s*\}\s*$/.exec(
      end,
    )?.[1];
  return last === undefined ? null : JSON.parse(last);
}
