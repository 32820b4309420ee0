import {
  type JSONRPCRequest,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { mapAtOnce } from "../util/at-once.ts";
import { accessTo, type ConsentDeps, connectTool, consentNeeded } from "./consent.ts";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded } from "./errors.ts";
import { isObject, type JsonObject, stringOf } from "./json.ts";
import {
  type ListEntry,
  type ListKind,
  type Lists,
  type MemberList,
  pageFilling,
  pageOf,
  positionOf,
} from "./lists.ts";
import type { MemberRequests } from "./member-requests.ts";
import { innerName, type Naming, outerName } from "./names.ts";
import { createParameterHeaders } from "./parameter-headers.ts";
import { levels } from "./relays.ts";
import { rewritten } from "./rewrite.ts";
import { jsonBytes } from "./session.ts";
import type { SessionWide } from "./session-wide.ts";
import { innerUri } from "./uris.ts";

/** Members that one request lists at once. */
export const membersAtOnce = 16;
/** Longest URI that a client can subscribe to, bytes: its session keeps it. */
const maxUriBytes = 4 * 1024;

export interface RequestDeps extends ConsentDeps {
  readonly lists: Lists;
  readonly requests: MemberRequests;
  readonly sessionWide: Pick<SessionWide, "subscribe" | "unsubscribe" | "setLevel">;
  readonly onList: (conversation: Conversation, naming: Naming, list: MemberList) => void;
}

const tools: ListKind = {
  method: "tools/list",
  field: "tools",
  capability: "tools",
  rewrite: rewritten.tool,
};
const prompts: ListKind = {
  method: "prompts/list",
  field: "prompts",
  capability: "prompts",
  rewrite: rewritten.prompt,
};
const resources: ListKind = {
  method: "resources/list",
  field: "resources",
  capability: "resources",
  rewrite: rewritten.resource,
};
const templates: ListKind = {
  method: "resources/templates/list",
  field: "resourceTemplates",
  capability: "resources",
  rewrite: rewritten.template,
};

/** Answers the requests of clients, in every revision: finds the member that a request is for, and passes it on. */
export function requestHandler(deps: RequestDeps) {
  const headers = createParameterHeaders();

  async function list(conversation: Conversation, kind: ListKind, params: JsonObject, ctx: ServerContext) {
    const { usable, reachable } = await accessTo(deps, conversation);
    const start = positionOf(params.cursor);
    const first = start ? conversation.namings.findIndex((one) => one.member.route.id === start.member) : 0;
    if (first === -1) throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Invalid cursor");
    const asked = conversation.namings.slice(first).filter((naming) => reachable.has(naming));
    const filled = pageFilling(start);
    const found = await mapAtOnce(
      asked,
      membersAtOnce,
      async (naming) => {
        const list: MemberList = usable.has(naming)
          ? await deps.lists.ofMember(conversation, naming, kind, ctx.mcpReq.signal)
          : { kind: "consent" };
        deps.onList(conversation, naming, list);
        if (kind === tools) headers.learn(conversation, naming, list);
        const entries = { member: naming.member.route.id, items: itemsOf(kind, naming, list) };
        filled.add(entries);
        return entries;
      },
      // What the following members list goes onto other pages.
      filled.isFull,
    );
    const { items, nextCursor } = pageOf(found, start);
    return { [kind.field]: items, ...(nextCursor === undefined ? {} : { nextCursor }) };
  }

  /** The member and its own name behind the name of a tool or prompt. @throws ProtocolError, ConsentNeeded */
  async function named(conversation: Conversation, kind: ListKind, outer: string, ctx: ServerContext) {
    const resolved = innerName(conversation.namings, outer);
    if (resolved === undefined) throw unknown(kind, outer);
    const { usable, reachable } = await accessTo(deps, conversation);
    if (!reachable.has(resolved.naming)) throw unknown(kind, outer);
    const { naming } = resolved;
    if (resolved.kind === "connect") return { kind: "connect" as const, naming };
    if (!usable.has(naming)) throw new ConsentNeeded(naming);
    if (resolved.kind === "name") return resolved;
    const list = await deps.lists.ofMember(conversation, naming, kind, ctx.mcpReq.signal);
    if (list.kind === "unavailable") throw list.error;
    if (list.kind === "consent") throw new ConsentNeeded(naming);
    const names = list.items.flatMap(({ item }) => stringOf(item.name) ?? []);
    const name = names.find((one) => outerName(naming, one) === outer);
    if (name === undefined) throw unknown(kind, outer);
    return { kind: "name" as const, naming, name };
  }

  /** The member and its own URI. @throws ProtocolError, ConsentNeeded */
  async function located(conversation: Conversation, outer: string) {
    const found = innerUri(conversation.namings, outer);
    const { usable, reachable } = await accessTo(deps, conversation);
    if (found === undefined || !reachable.has(found.naming))
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, `Resource not found: ${outer}`, {
        uri: outer,
      });
    if (!usable.has(found.naming)) throw new ConsentNeeded(found.naming);
    return found;
  }

  async function complete(conversation: Conversation, params: JsonObject, ctx: ServerContext) {
    const ref = isObject(params.ref) ? params.ref : {};
    if (ref.type === "ref/resource") {
      const { naming, uri } = await located(conversation, String(ref.uri));
      return deps.requests.plain(
        conversation,
        naming,
        "completion/complete",
        { ...params, ref: { ...ref, uri } },
        ctx,
      );
    }
    const outer = String(ref.name);
    const found = await named(conversation, prompts, outer, ctx);
    if (found.kind !== "name") throw unknown(prompts, outer);
    const { naming, name } = found;
    return deps.requests.plain(
      conversation,
      naming,
      "completion/complete",
      { ...params, ref: { ...ref, name } },
      ctx,
    );
  }

  async function handle(
    conversation: Conversation,
    request: JSONRPCRequest,
    ctx: ServerContext,
  ): Promise<JsonObject> {
    const { method } = request;
    const params: JsonObject = request.params ?? {};
    switch (method) {
      case "tools/list":
        return list(conversation, tools, params, ctx);
      case "prompts/list":
        return list(conversation, prompts, params, ctx);
      case "resources/list":
        return list(conversation, resources, params, ctx);
      case "resources/templates/list":
        return list(conversation, templates, params, ctx);
      case "tools/call": {
        const outer = required(params, "name");
        const found = await named(conversation, tools, outer, ctx);
        if (found.kind === "connect") return deps.requests.connect(conversation, found.naming, ctx);
        const { naming, name } = found;
        const call = { method, params: { ...params, name }, outer, rewrite: rewritten.toolResult };
        return headers.calling(
          conversation,
          naming,
          call.params,
          (headers) => deps.requests.asking(conversation, naming, { ...call, headers }, ctx),
          () => deps.lists.ofMember(conversation, naming, tools, ctx.mcpReq.signal),
        );
      }
      case "prompts/get": {
        const outer = required(params, "name");
        const found = await named(conversation, prompts, outer, ctx);
        if (found.kind === "connect") throw unknown(prompts, outer);
        const { naming, name } = found;
        const call = { method, params: { ...params, name }, outer, rewrite: rewritten.promptResult };
        return deps.requests.asking(conversation, naming, call, ctx);
      }
      case "resources/read": {
        const outer = required(params, "uri");
        const { naming, uri } = await located(conversation, outer);
        const call = { method, params: { ...params, uri }, outer, rewrite: rewritten.readResult };
        return deps.requests.asking(conversation, naming, call, ctx);
      }
      case "resources/subscribe":
      case "resources/unsubscribe": {
        const outer = required(params, "uri");
        if (Buffer.byteLength(outer) > maxUriBytes) throw invalid(`uri is longer than ${maxUriBytes} bytes`);
        const { naming, uri } = await located(conversation, outer);
        const change = method === "resources/subscribe" ? "subscribe" : "unsubscribe";
        return deps.sessionWide[change](conversation, naming, outer, uri);
      }
      case "completion/complete":
        return complete(conversation, params, ctx);
      case "logging/setLevel": {
        const level = required(params, "level");
        if (!levels.includes(level)) throw invalid(`level must be one of ${levels.join(", ")}`);
        return deps.sessionWide.setLevel(conversation, level);
      }
      default:
        throw new ProtocolError(ProtocolErrorCode.MethodNotFound, "Method not found");
    }
  }

  return async (
    conversation: Conversation,
    request: JSONRPCRequest,
    ctx: ServerContext,
  ): Promise<JsonObject> => {
    try {
      return await handle(conversation, request, ctx);
    } catch (error) {
      // Completions are asked for while the user types: they make no link.
      if (!(error instanceof ConsentNeeded) || request.method === "completion/complete") throw error;
      return consentNeeded(deps, conversation, error.naming, request.method, ctx);
    }
  };
}

/** The entries of a member's list, with names and URIs of the aggregated route. A member that must be connected has one tool. */
function itemsOf(kind: ListKind, naming: Naming, list: MemberList): readonly ListEntry[] {
  if (list.kind === "listed")
    return list.items.map(({ item, bytes }) => ({ item: kind.rewrite(naming, item), bytes }));
  if (list.kind !== "consent" || kind !== tools) return [];
  const item = connectTool(naming);
  return [{ item, bytes: jsonBytes(item) }];
}

function required(params: JsonObject, field: string): string {
  const value = stringOf(params[field]);
  if (value === undefined) throw invalid(`${field} must be a string`);
  return value;
}

function invalid(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidParams, message);
}

function unknown({ field }: ListKind, name: string): ProtocolError {
  const what = field === "tools" ? "Tool" : "Prompt";
  return new ProtocolError(ProtocolErrorCode.InvalidParams, `${what} ${name} not found`);
}
