import type { IncomingMessage } from "node:http";
import type { JsonRpcId } from "../policy/policy.ts";
import { Places } from "../util/at-once.ts";

/** One JSON-RPC request: not a batch, a notification or a response. */
export interface McpRequest {
  readonly id: JsonRpcId;
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** How long a body may take, ms: Envoy has received its start before the call gets here. */
const bodyMs = 5_000;
/** Bodies read at once, in this process; and of one user. */
const maxReading = 256;
const maxReadingPerUser = 16;

const reading = new Places(maxReading);

/**
 * Reads the only request of a body; undefined if the body is anything else, too long, too slow, or one too many. The caller then answers
 * without it.
 *
 * @param userId authenticated: the number of bodies per user is limited
 * @param maxBytes longest body
 */
export async function readMcpRequest(
  request: IncomingMessage,
  userId: string,
  maxBytes: number,
): Promise<McpRequest | undefined> {
  const { headers } = request;
  if (Number(headers["content-length"] ?? 0) > maxBytes || headers["content-encoding"] !== undefined)
    return undefined;
  const done = reading.take({ key: userId, max: maxReadingPerUser });
  if (done === undefined) return undefined;
  try {
    return parse(await bodyOf(request, maxBytes));
  } finally {
    done();
  }
}

/** Does not destroy the request, whose connection the response needs. */
function bodyOf(request: IncomingMessage, maxBytes: number): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const timer = setTimeout(() => done(undefined), bodyMs);
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      if (length > maxBytes) done(undefined);
    };
    const onEnd = () => done(Buffer.concat(chunks));
    const onClose = () => done(undefined);
    function done(body: Buffer | undefined): void {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("close", onClose).off("error", onClose);
      resolve(body);
    }
    request.on("data", onData).on("end", onEnd).on("close", onClose).on("error", onClose);
  });
}

function parse(body: Buffer | undefined): McpRequest | undefined {
  let message: unknown;
  try {
    message = body && JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
  const { jsonrpc, id, method, params } = members(message);
  if (jsonrpc !== "2.0" || typeof method !== "string" || (typeof id !== "string" && typeof id !== "number"))
    return undefined;
  return { id, method, params: members(params) };
}

/** The members of a JSON object; none of any other value. */
export function members(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}
