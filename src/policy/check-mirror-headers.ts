import type { PolicyInput } from "./policy-input.ts";
import type { JsonRpcMessage } from "./read-json-rpc.ts";

/**
 * Compares `Mcp-Method` and `Mcp-Name`, where they are sent, with the message they mirror (MCP 2026-07-28, Streamable
 * HTTP, "Server Validation"): a server may act on either.
 *
 * @param message the only message of the body; absent for a batch, which no header can mirror.
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
  if (name !== undefined && (call?.name === undefined || decode(name) !== call.name)) return "Mcp-Name";
  return undefined;
}

/** A value that is no plain ASCII travels as `=?base64?...?=` ("Value Encoding"); `undefined` if that is malformed. */
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
