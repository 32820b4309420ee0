import { type Node, parseTree } from "jsonc-parser";
import type { PolicyMatcher } from "../model/route.ts";
import { compileMatcher } from "./matchers.ts";

interface Replacement {
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

/**
 * Removes denied tools from a JSON text: from the `tools` of every JSON-RPC result in it (a message or a batch). Everything else
 * keeps its bytes: large numbers, key order, blanks. A result with `cacheScope: "public"` (MCP 2026-07-28) becomes private, because
 * the list is now specific to one caller.
 *
 * @returns the text, identical if nothing had to change; `undefined` if it is not JSON.
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
  // Joins pieces once: a text with a thousand lists must not be copied a thousand times.
  const pieces: string[] = [];
  let from = 0;
  for (const replacement of replacements) {
    pieces.push(text.slice(from, replacement.from), replacement.text);
    from = replacement.to;
  }
  return from === 0 ? text : [...pieces, text.slice(from)].join("");
}

/** Values of all members of this name: parsers differ in which of two equal keys they use. */
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

/** A filtered response, or none if it cannot be read and must not reach the client. */
export type Filtered = { readonly ok: true; readonly body: Uint8Array } | { readonly ok: false };

/**
 * Filters the whole `application/json` response to a `tools/list` request. If nothing has to be removed, `body` is the same object;
 * otherwise, also remove the response's `content-length`.
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
 * How to filter a response that may list tools: `json` (buffer it, `filterToolsJson`), `event_stream`
 * (`createToolsStreamFilter`), `none` (it lists no tools), `unreadable` (replace it with an error: it might list tools).
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

/**
 * A policy reduced to a condition on the tool's name, all other facts being known. Plain JSON, so that Envoy's metadata can carry it
 * from the request to its response without naming the caller.
 */
export type ToolExpression =
  | boolean
  | { readonly tool: PolicyMatcher }
  | { readonly names: readonly string[] }
  | { readonly and: readonly ToolExpression[] }
  | { readonly or: readonly ToolExpression[] }
  | { readonly not: ToolExpression };

/** Combines expressions with `and` or `or`, and simplifies constants and single parts. */
export function combineToolExpressions(op: "and" | "or", parts: readonly ToolExpression[]): ToolExpression {
  const decides = op === "or";
  if (parts.includes(decides)) return decides;
  const open = parts.filter((part) => typeof part !== "boolean");
  const [only] = open;
  if (only === undefined) return !decides;
  if (open.length === 1) return only;
  return op === "and" ? { and: open } : { or: open };
}

/** The opposite of an expression. */
export function negateToolExpression(part: ToolExpression): ToolExpression {
  if (typeof part === "boolean") return !part;
  return "not" in part ? part.not : { not: part };
}

/**
 * Compiles `tools.allow` or `tools.deny`: case-sensitive tool names, where `*` matches any characters. Matching takes linear time in
 * the name's length for each pattern, whatever the number of stars.
 */
export function compileToolNames(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes("*")));
  const globs = patterns.filter((pattern) => pattern.includes("*")).map((pattern) => pattern.split("*"));
  return (name) => exact.has(name) || globs.some((parts) => matchesGlob(name, parts));
}

function matchesGlob(name: string, parts: readonly string[]): boolean {
  const head = parts[0] ?? "";
  const tail = parts.at(-1) ?? "";
  if (name.length < head.length + tail.length || !name.startsWith(head) || !name.endsWith(tail)) return false;
  const end = name.length - tail.length;
  let from = head.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, from);
    if (found < 0 || found + part.length > end) return false;
    from = found + part.length;
  }
  return true;
}

/** Whether the caller may see a tool of this name. */
export type MayShow = (toolName: string) => boolean;

/**
 * Converts the `toolFilter` of an `allow` decision, received in Envoy's metadata, into a function. An invalid text hides every
 * tool.
 */
export function readToolFilter(text: string): MayShow {
  try {
    const expression: ToolExpression = JSON.parse(text);
    return compile(expression);
  } catch {
    return () => false;
  }
}

function compile(expression: ToolExpression): MayShow {
  if (expression === true || expression === false) return () => expression;
  if ("and" in expression) {
    const parts = expression.and.map(compile);
    return (name) => parts.every((part) => part(name));
  }
  if ("or" in expression) {
    const parts = expression.or.map(compile);
    return (name) => parts.some((part) => part(name));
  }
  if ("not" in expression) {
    const part = compile(expression.not);
    return (name) => !part(name);
  }
  return "names" in expression ? compileToolNames(expression.names) : compileTool(expression.tool);
}

function compileTool(matcher: PolicyMatcher): MayShow {
  const compiled = compileMatcher(matcher);
  return (name) => compiled.matches([name]);
}
