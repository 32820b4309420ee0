import { createScanner } from "jsonc-parser";
import type { PolicyInput } from "../model/subject.ts";
import type { JsonRpcId, UnreadableReason } from "./policy.ts";

/**
 * The word that a lenient parser may take a key for: without compatibility forms, letter case (by Unicode, as Go's decoder folds
 * it: `ſ` is an `s`), accents, invisible characters, blanks and separators.
 */
export function foldKey(key: string): string {
  return key
    .normalize("NFKD")
    .toUpperCase()
    .toLowerCase()
    .replace(/[\p{C}\p{M}\p{P}\p{Z}\p{S}]/gu, "");
}

/** A key that two parsers may read differently, or nesting that one of them may not support. */
export interface AmbiguousKey {
  readonly reason: "duplicate_key" | "lookalike_key" | "too_deep";
  readonly key: string;
}

/** Keys that decisions depend on: those of a JSON-RPC message, and the parameter that names the tool. */
const reserved = {
  message: new Set(["jsonrpc", "id", "method", "params", "result", "error"]),
  params: new Set(["name"]),
};

interface Frame {
  readonly isObject: boolean;
  readonly level: "root" | "batch" | "message" | "params" | "other";
  readonly keys: Set<string>;
  /** The key whose value comes next. */
  key: string;
  expectsKey: boolean;
}

/**
 * Checks every key of a JSON text, as a parsed value no longer shows them: the same key twice in one object (parsers differ in
 * which one wins), a reserved key in other letters (`Method`, `paramſ`: Go's decoder accepts both), `__proto__`, deep nesting.
 * Walks tokens, without recursion.
 *
 * @param text JSON that `JSON.parse` has accepted.
 * @param maxDepth levels of nesting.
 */
export function findAmbiguousKey(text: string, maxDepth: number): AmbiguousKey | undefined {
  const scanner = createScanner(text, true);
  const stack: Frame[] = [];
  for (;;) {
    scanner.scan();
    const at = scanner.getTokenOffset();
    if (at >= text.length) return undefined;
    const top = stack.at(-1);
    switch (text[at]) {
      case "{":
      case "[":
        if (stack.length === maxDepth) return { reason: "too_deep", key: "" };
        stack.push(frameWithin(top, text[at] === "{"));
        break;
      case "}":
      case "]":
        stack.pop();
        break;
      case ",":
        if (top) top.expectsKey = top.isObject;
        break;
      case '"':
        if (top?.expectsKey) {
          const key = scanner.getTokenValue();
          const reason = wrongWith(key, top);
          if (reason) return { reason, key };
          top.keys.add(key);
          top.key = key;
          top.expectsKey = false;
        }
        break;
      default:
    }
  }
}

function frameWithin(parent: Frame | undefined, isObject: boolean): Frame {
  return { isObject, level: levelWithin(parent, isObject), keys: new Set(), key: "", expectsKey: isObject };
}

function levelWithin(parent: Frame | undefined, isObject: boolean): Frame["level"] {
  if (!parent) return isObject ? "message" : "batch";
  if (parent.level === "batch" && isObject) return "message";
  if (parent.level === "message" && parent.key === "params" && isObject) return "params";
  return "other";
}

function wrongWith(key: string, { keys, level }: Frame): AmbiguousKey["reason"] | undefined {
  if (keys.has(key)) return "duplicate_key";
  if (level !== "message" && level !== "params") return undefined;
  if (reserved[level].has(key)) return undefined;
  const folded = foldKey(key);
  return folded === "proto" || reserved[level].has(folded) || !key.isWellFormed()
    ? "lookalike_key"
    : undefined;
}

/**
 * Compares `Mcp-Method` and `Mcp-Name`, if present, with the message they mirror (MCP 2026-07-28, Streamable HTTP, "Server
 * Validation"): a server may act on either.
 *
 * @param message the only message of the body; absent for a batch, which headers cannot mirror.
 * @returns which header disagrees, or `undefined`.
 */
export function checkMirrorHeaders(
  headers: PolicyInput["headers"],
  message: JsonRpcMessage | undefined,
): "Mcp-Method" | "Mcp-Name" | undefined {
  const call = message && message.kind !== "response" ? message : undefined;
  const method = headers["mcp-method"];
  if (method !== undefined && method !== call?.method) return "Mcp-Method";
  const name = headers["mcp-name"];
  // Without `encode_raw_headers`, Envoy replaces a byte that is not UTF-8 with `!`; a server may drop it.
  if (call?.tool !== undefined && name?.includes("!")) return "Mcp-Name";
  if (name !== undefined && (call?.name === undefined || decode(name) !== call.name)) return "Mcp-Name";
  return undefined;
}

/** Decodes `=?base64?...?=`, the encoding of non-ASCII values ("Value Encoding"); `undefined` if malformed. */
function decode(value: string): string | undefined {
  const encoded = /^=\?base64\?(.*)\?=$/.exec(value)?.[1];
  if (encoded === undefined) return value;
  const bytes = Buffer.from(encoded, "base64");
  if (bytes.toString("base64") !== encoded) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** One JSON-RPC message, as far as policy needs it. `tool` is present on `tools/call` only. */
export type JsonRpcMessage =
  | (Method & { readonly kind: "request"; readonly id: JsonRpcId })
  | (Method & { readonly kind: "notification" })
  | { readonly kind: "response" };
interface Method {
  readonly method: string;
  readonly tool?: string;
  /** The value that `Mcp-Name` mirrors: `params.name` or `params.uri`. */
  readonly name?: string;
}

/** The content of a body, or why it cannot be read reliably. */
export type JsonRpcReading =
  | { readonly ok: true; readonly batch: boolean; readonly messages: readonly JsonRpcMessage[] }
  | Unreadable;
interface Unreadable {
  readonly ok: false;
  readonly reason: UnreadableReason;
  readonly status: 400 | 413;
  readonly message: string;
}

const maxDepth = 128;
const maxBatch = 100;
const maxIdLength = 256;
const maxToolNameLength = 256;

/**
 * Reads the JSON-RPC messages of a request, strictly: a body that two parsers could read as different calls is rejected. A GET,
 * HEAD or DELETE without a body has no messages.
 *
 * @param maxBytes the largest body, bytes; a longer or truncated one is rejected with 413.
 */
export function readJsonRpc(
  { method, headers, body, bodyIsText }: Pick<PolicyInput, "method" | "headers" | "body" | "bodyIsText">,
  maxBytes: number,
): JsonRpcReading {
  const length = body?.byteLength ?? 0;
  if (method === "GET" || method === "DELETE" || method === "HEAD") {
    const empty = length === 0 && Number(headers["content-length"] ?? 0) === 0;
    return empty ? { ok: true, batch: false, messages: [] } : unreadable("unexpected_body", `on ${method}`);
  }
  if (method !== "POST") return unreadable("http_method");
  // A client's header next to Envoy's yields another value than these.
  if (length > maxBytes || (headers["x-envoy-auth-partial-body"] ?? "false") !== "false") {
    return tooLarge(maxBytes);
  }
  if (headers["content-encoding"] !== undefined) return unreadable("content_encoding");
  if (!isJson(headers["content-type"])) return unreadable("content_type");
  if (body === undefined || length === 0) return unreadable("body_missing");
  if (headers["content-length"] !== undefined && headers["content-length"] !== String(length)) {
    return unreadable("body_incomplete");
  }

  const parsed = parse(body, bodyIsText ?? false);
  if (!parsed.ok) return parsed;
  const { value } = parsed;
  const batch = Array.isArray(value);
  if (batch && value.length === 0) return unreadable("empty_batch");
  if (batch && value.length > maxBatch)
    return unreadable("batch_too_long", `the limit is ${maxBatch} messages`);
  const messages: JsonRpcMessage[] = [];
  for (const member of batch ? value : [value]) {
    const message = readMessage(member);
    if ("ok" in message) return message;
    messages.push(message);
  }
  const disagreement = checkMirrorHeaders(headers, batch ? undefined : messages[0]);
  return disagreement ? unreadable("header_mismatch", disagreement) : { ok: true, batch, messages };
}

/** Accepts only these spellings: lenient parsing of parameters could hide another charset. */
function isJson(contentType: string | undefined): boolean {
  return /^application\/json(?:\s*;\s*charset\s*=\s*(?:utf-8|"utf-8"))?\s*$/i.test(contentType ?? "");
}

function parse(
  body: Uint8Array,
  mayHide: boolean,
): { readonly ok: true; readonly value: unknown } | Unreadable {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return unreadable("invalid_utf8");
  }
  if (text.startsWith("\uFEFF")) return unreadable("byte_order_mark");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return unreadable("invalid_json");
  }
  // Decoders differ on what they make of such a byte and the ones after it: it can end a string, and hide another call anywhere.
  if (mayHide && text.includes("!")) return unreadable("hidden_bytes");
  const ambiguous = findAmbiguousKey(text, maxDepth);
  if (ambiguous)
    return unreadable(ambiguous.reason, ambiguous.key && JSON.stringify(ambiguous.key.slice(0, 64)));
  return { ok: true, value };
}

function readMessage(value: unknown): JsonRpcMessage | Unreadable {
  if (!isObject(value) || value.jsonrpc !== "2.0") return unreadable("not_json_rpc");
  const { id, method, params } = value;
  const answers = Number("result" in value) + Number("error" in value);
  if (method === undefined) {
    if (answers !== 1 || params !== undefined) return unreadable("not_json_rpc");
    return isId(id) || (id === null && "error" in value) ? { kind: "response" } : unreadable("invalid_id");
  }
  if (answers > 0) return unreadable("not_json_rpc");
  if (typeof method !== "string" || !isMethod(method)) return unreadable("invalid_method");
  const call = readParams(method, params);
  if ("ok" in call) return call;
  if (!("id" in value)) return { kind: "notification", ...call };
  return isId(id) ? { kind: "request", id, ...call } : unreadable("invalid_id");
}

function readParams(method: string, params: unknown): Method | Unreadable {
  if (method === "tools/call") {
    if (!isObject(params)) return unreadable("invalid_params");
    const { name } = params;
    return typeof name === "string" && isToolName(name)
      ? { method, tool: name, name }
      : unreadable("invalid_tool_name");
  }
  // Some clients send `params: null` instead of omitting it; an array would be read by position.
  if (params === undefined || params === null) return { method };
  if (!isObject(params)) return unreadable("invalid_params");
  const mirrored = method === "resources/read" ? params.uri : (params.name ?? params.uri ?? params.taskId);
  return typeof mirrored === "string" ? { method, name: mirrored } : { method };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isId(id: unknown): id is JsonRpcId {
  return (
    Number.isSafeInteger(id) || (typeof id === "string" && id.length <= maxIdLength && id.isWellFormed())
  );
}

/** Printable ASCII, and a single spelling of `tools/call`. */
function isMethod(method: string): boolean {
  return /^[\x21-\x7e]+$/.test(method) && (foldKey(method) !== "toolscall" || method === "tools/call");
}

/** A name that does not change when a server trims it, normalizes it (as Python does with identifiers) or cuts it at a NUL. */
function isToolName(name: string): boolean {
  return (
    name.length > 0 &&
    name.length <= maxToolNameLength &&
    !/\p{C}|\uFFFD|^\p{Z}|\p{Z}$/u.test(name) &&
    name === name.normalize("NFKC")
  );
}

/** @param maxBytes the limit, for the message */
export function tooLarge(maxBytes: number) {
  return { ...unreadable("body_too_large", `the limit is ${maxBytes} bytes`), status: 413 } as const;
}

function unreadable(reason: UnreadableReason, detail = ""): Unreadable {
  const message = detail ? `${sentences[reason]} (${detail}).` : `${sentences[reason]}.`;
  return { ok: false, reason, status: 400, message };
}

const sentences: Record<UnreadableReason, string> = {
  http_method: "Only GET, POST and DELETE are served here",
  unexpected_body: "A body is not expected",
  body_missing: "The body of a POST must hold a JSON-RPC message",
  body_too_large: "The body is too large",
  body_incomplete: "The body is not as long as Content-Length says",
  content_encoding: "Content-Encoding is not accepted here; send the body uncompressed",
  content_type: "Content-Type must be application/json in UTF-8",
  invalid_utf8: "The body is not valid UTF-8",
  hidden_bytes:
    'This gateway gets bodies as text, with "!" for each byte that is not UTF-8; write \\u0021 instead of "!" here',
  byte_order_mark: "The body must not begin with a byte order mark",
  invalid_json: "The body is not valid JSON",
  too_deep: "The body is nested too deeply",
  duplicate_key: "An object in the body has the same key twice",
  lookalike_key: "The body has a key that could be taken for another one",
  not_json_rpc: "The body is not a JSON-RPC 2.0 message",
  empty_batch: "The batch is empty",
  batch_too_long: "The batch has too many messages",
  invalid_id: "A JSON-RPC id must be a string or an integer",
  invalid_method: "The JSON-RPC method cannot be read",
  invalid_params: "JSON-RPC params must be an object",
  invalid_tool_name: "The tool's name cannot be read",
  header_mismatch: "The Mcp-Method and Mcp-Name headers must agree with the body",
};
