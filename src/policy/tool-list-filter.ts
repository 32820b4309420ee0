import { type Node, parseTree } from "jsonc-parser";
import type { MayShow } from "./tool-expression.ts";

interface Replacement {
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

/**
 * Takes the tools that may not be shown out of a JSON text: out of the `tools` of every JSON-RPC result in it (a message
 * or a batch). All else keeps its bytes: numbers no parser can hold, key order, blanks. A result that others may cache
 * (`cacheScope: "public"`, MCP 2026-07-28) becomes private, since it is now one caller's list.
 *
 * @returns the text, the same one where nothing had to change; `undefined` where it is no JSON.
 */
export function hideTools(text: string, mayShow: MayShow): string | undefined {
  let root: Node | undefined;
  try {
    JSON.parse(text);
    root = parseTree(text);
  } catch {
    return undefined;
  }
  if (!root) return undefined;
  const messages = root.type === "array" ? (root.children ?? []) : [root];
  const replacements = messages
    .flatMap((message) => members(message, "result"))
    .flatMap((result) => {
      const lists = members(result, "tools").filter((list) => list.type === "array");
      if (lists.length === 0) return [];
      const scopes = members(result, "cacheScope").filter((scope) => scope.value !== "private");
      return [
        ...lists.flatMap((list) => shorten(text, list, mayShow)),
        ...scopes.map((scope) => replace(scope, '"private"')),
      ];
    })
    .sort((one, other) => one.from - other.from);
  // Piece by piece: a text of a thousand lists must not be copied a thousand times.
  const pieces: string[] = [];
  let from = 0;
  for (const replacement of replacements) {
    pieces.push(text.slice(from, replacement.from), replacement.text);
    from = replacement.to;
  }
  return from === 0 ? text : [...pieces, text.slice(from)].join("");
}

/** Values of every member of this name: where a key comes twice, which one counts depends on who reads it. */
function members(node: Node, name: string): Node[] {
  if (node.type !== "object") return [];
  return (node.children ?? []).flatMap(({ children: [key, value] = [] }) =>
    key?.value === name && value ? [value] : [],
  );
}

function shorten(text: string, list: Node, mayShow: MayShow): Replacement[] {
  const tools = list.children ?? [];
  const shown = tools.filter((tool) => {
    const names = members(tool, "name").map((name) => name.value);
    return names.length > 0 && names.every((name) => typeof name === "string" && mayShow(name));
  });
  if (shown.length === tools.length) return [];
  const kept = shown.map(({ offset, length }) => text.slice(offset, offset + length));
  return [replace(list, `[${kept.join(",")}]`)];
}

function replace({ offset, length }: Node, text: string): Replacement {
  return { from: offset, to: offset + length, text };
}

/** A filtered answer, or the fact that it cannot be read and must not reach the client. */
export type Filtered = { readonly ok: true; readonly body: Uint8Array } | { readonly ok: false };

/**
 * Filters the whole `application/json` answer to a `tools/list`. Where nothing has to go, `body` is the very
 * same bytes; where it changed, the response's `content-length` must go, too.
 */
export function filterToolsJson(body: Uint8Array, mayShow: MayShow): Filtered {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return { ok: false };
  }
  const filtered = hideTools(text, mayShow);
  if (filtered === undefined) return { ok: false };
  return { ok: true, body: filtered === text ? body : Buffer.from(filtered) };
}

/**
 * How a response that may list tools is to be filtered: `json` (buffer it, `filterToolsJson`), `event_stream`
 * (`createToolsStreamFilter`), `none` (it lists nothing), `unreadable` (refuse it: it might list tools, and we cannot tell).
 *
 * @param headers the upstream's response headers, names in lower case.
 */
export function toolsAnswerFormat(
  status: number,
  headers: Readonly<Record<string, string | undefined>>,
): "json" | "event_stream" | "none" | "unreadable" {
  const type = headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase();
  const empty = status === 202 || status === 204 || headers["content-length"] === "0";
  if (status < 200 || status > 299 || empty) return "none";
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") return "unreadable";
  if (type === "application/json") return "json";
  return type === "text/event-stream" ? "event_stream" : "unreadable";
}
