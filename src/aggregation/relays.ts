import { randomUUID } from "node:crypto";
import { ProtocolError, ProtocolErrorCode, type ServerContext } from "@modelcontextprotocol/server";
import type { Conversation } from "./conversation.ts";
import { anyObject, arrayOf, isObject, type JsonObject } from "./json.ts";
import type { Naming } from "./names.ts";
import { rewritten } from "./rewrite.ts";

/** Where the messages go that a member sends while it handles a call. */
export interface Relay {
  /** Present if the client wants to know of progress. */
  readonly progress?: (params: JsonObject) => void;
  readonly notify: (method: string, params: JsonObject) => void;
  /**
   * Asks the client. @throws ProtocolError what the client answers
   * @param signal aborted when the member no longer wants to know
   */
  readonly ask: (method: string, params: JsonObject, signal: AbortSignal) => Promise<JsonObject>;
}

/** How long a person may take to answer, ms. */
export const answerMs = 600_000;

/** From the most to the least severe (RFC 5424). */
export const levels = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/** Whether a log message is severe enough for a client. */
export function isWanted(level: unknown, conversation: Pick<Conversation, "client" | "logLevel">): boolean {
  if (conversation.logLevel === undefined) return conversation.client.era === "legacy";
  return levels.indexOf(String(level)) <= levels.indexOf(conversation.logLevel);
}

/** A member's notification, as the client of an aggregated route gets it; undefined: it does not get it. */
export function outerNotification(
  naming: Naming,
  method: string,
  params: JsonObject,
  conversation: Pick<Conversation, "client" | "logLevel">,
): JsonObject | undefined {
  if (method === "notifications/message") {
    if (!isWanted(params.level, conversation)) return undefined;
    if (naming.transparent) return params;
    const { logger } = params;
    const { id } = naming.member.route;
    return { ...params, logger: typeof logger === "string" && logger !== "" ? `${id}/${logger}` : id };
  }
  if (method === "notifications/resources/updated") return rewritten.updated(naming, params);
  // Answers to a member's own requests are handled by the SDK; those below are for every client.
  return passed.has(method) ? params : undefined;
}

const passed = new Set([
  "notifications/elicitation/complete",
  "notifications/tools/list_changed",
  "notifications/prompts/list_changed",
  "notifications/resources/list_changed",
]);

/** A member's question, which names the member: the person must see which server asks. The requested schema is as the member sent it. */
export function namedQuestion(
  { member, transparent }: Naming,
  method: string,
  params: JsonObject,
): JsonObject {
  if (transparent) return params;
  const name = `[${member.route.name}] `;
  if (method === "elicitation/create")
    return { ...params, message: name + (typeof params.message === "string" ? params.message : "") };
  if (method !== "sampling/createMessage") return params;
  const [first, ...rest] = Array.isArray(params.messages) ? params.messages : [];
  return isObject(first) && isObject(first.content) && typeof first.content.text === "string"
    ? {
        ...params,
        messages: [{ ...first, content: { ...first.content, text: name + first.content.text } }, ...rest],
      }
    : {
        ...params,
        systemPrompt: name + (typeof params.systemPrompt === "string" ? params.systemPrompt : ""),
      };
}

/** JSON-RPC: the person must open a link first (MCP 2025-11-25, "URL Elicitation Required"). */
const urlElicitationRequired = -32_042;

/**
 * A member's error, which names the member: it may say "Connect your account" like a question. Code and data are as the member sent
 * them, except for links that the person is asked to open.
 */
export function namedError(
  naming: Naming,
  { code, message, data }: { readonly code: number; readonly message: string; readonly data?: unknown },
  { capabilities }: Conversation["client"],
): { readonly message: string; readonly data?: unknown } {
  const named = naming.transparent ? message : `[${naming.member.route.name}] ${message}`;
  if (code !== urlElicitationRequired || !isObject(data)) return { message: named, data };
  const asked = capabilities.elicitation?.url ? arrayOf(data.elicitations).filter(isObject) : [];
  const elicitations = asked.map((params) => namedQuestion(naming, "elicitation/create", params));
  return { message: named, data: { ...data, elicitations } };
}

/** Relays a member's messages on the stream of the client's own request. Clients of 2026-07-28 cannot be asked on it. */
export function streamRelay(conversation: Conversation, naming: Naming, ctx: ServerContext): Relay {
  const token = ctx.mcpReq._meta?.progressToken;
  const send = (method: string, params: JsonObject) => {
    // The client may be gone.
    ctx.mcpReq.notify({ method, params: { ...params } }).catch(() => {});
  };
  return {
    ...(token === undefined
      ? {}
      : { progress: (params) => send("notifications/progress", { ...params, progressToken: token }) }),
    notify(method, params) {
      const outer = outerNotification(naming, method, params, conversation);
      if (outer !== undefined && mayCarry(conversation, method)) send(method, outer);
    },
    async ask(method, params, signal) {
      if (conversation.client.era === "modern" || !asksClient(method))
        throw new ProtocolError(ProtocolErrorCode.MethodNotFound, "Method not found");
      const named = namedQuestion(naming, method, params);
      // Required until 2025-11-25; members of 2026-07-28 send none.
      const id =
        named.mode === "url" && named.elicitationId === undefined ? { elicitationId: randomUUID() } : {};
      const question = { method, params: { ...named, ...id } };
      return ctx.mcpReq.send(question, anyObject, { signal, timeout: answerMs });
    },
  };
}

export function asksClient(method: string): boolean {
  return method === "elicitation/create" || method === "sampling/createMessage" || method === "roots/list";
}

/** Since 2026-07-28, changes are sent on `subscriptions/listen` only. */
function mayCarry({ client }: Conversation, method: string): boolean {
  return client.era === "legacy" || method === "notifications/message";
}
