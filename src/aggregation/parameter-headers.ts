import { ProtocolError } from "@modelcontextprotocol/server";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Conversation } from "./conversation.ts";
import { isObject, type JsonObject, stringOf } from "./json.ts";
import type { MemberList } from "./lists.ts";
import type { Naming } from "./names.ts";
import { jsonBytes } from "./session.ts";

/* MCP 2026-07-28, "Standard Headers": a tool's schema can want parameters as headers, too. Clients of earlier revisions send none. */

const prefix = "mcp-param-";

/** JSON-RPC: a parameter and the header that mirrors it differ, or the header is missing. */
export const headerMismatch = -32_020;

/** A parameter that is sent as a header, too. */
interface Mirrored {
  /** Where it is in the arguments. */
  readonly path: readonly string[];
  /** Without `Mcp-Param-`. */
  readonly name: string;
}

type MirroredTools = ReadonlyMap<string, readonly Mirrored[]>;

/** Members, by grant, whose tools are remembered. */
const maxKnown = 2_000;
/** What is remembered of one member, bytes of JSON; a tool beyond it is looked up whenever it is called. */
const maxKnownBytes = 16 * 1024;
/** What is searched of a schema: its depth, the length of a parameter's name, and the headers of one tool. */
const maxDepth = 16;
const maxKeyLength = 256;
const maxHeaders = 64;
/** Longest value that is mirrored, characters: Envoy rejects requests with longer headers, whatever the member wants. */
const maxValueLength = 8 * 1024;
/** RFC 9110 section 5.1. */
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;

/** The parameters that a client has sent as headers; names in lower case. */
export function sentBy(request: Request): Record<string, string> {
  return Object.fromEntries([...request.headers].filter(([name]) => name.startsWith(prefix)));
}

/** The parameters of a tool that its schema wants as headers. */
export function mirroredBy(tool: JsonObject): readonly Mirrored[] {
  const found: Mirrored[] = [];
  const search = (schema: unknown, path: readonly string[]) => {
    if (!isObject(schema) || path.length > maxDepth || found.length >= maxHeaders) return;
    const name = stringOf(schema["x-mcp-header"]);
    if (name !== undefined && token.test(name)) found.push({ path, name });
    if (!isObject(schema.properties)) return;
    // Each header repeats the names above it: long ones would make far more of a schema than the member has sent.
    for (const [key, property] of Object.entries(schema.properties))
      if (key.length <= maxKeyLength) search(property, [...path, key]);
  };
  search(tool.inputSchema, []);
  return found;
}

/** The headers of a call. Parameters that are absent or not primitive have none. */
export function headersOf(mirrored: readonly Mirrored[], args: unknown): Record<string, string> {
  return Object.fromEntries(
    mirrored.flatMap(({ path, name }) => {
      const value = path.reduce<unknown>(
        (at, key) => (isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined),
        args,
      );
      const text = textOf(value);
      return text === undefined || text.length > maxValueLength
        ? []
        : [[`${prefix}${name.toLowerCase()}`, encoded(text)]];
    }),
  );
}

function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "boolean" || Number.isSafeInteger(value) ? String(value) : undefined;
}

/** As it is if a header can carry it, which then cannot be taken for an encoded one. */
function encoded(text: string): string {
  const plain = /^[\t\x20-\x7e]+$/.test(text) && text === text.trim() && !/^=\?base64\?.*\?=$/.test(text);
  return plain ? text : `=?base64?${Buffer.from(text).toString("base64")}?=`;
}

/** Sends the headers of clients that know none to members that want them. */
export interface ParameterHeaders {
  /** A member has listed its tools to a client. */
  learn(conversation: Conversation, naming: Naming, list: MemberList): void;
  /**
   * Calls a tool with the headers that its schema wants. If the member then rejects the call because of them, it is called once more, with
   * those of its present list.
   * @param params of the call, with the member's own names
   */
  calling(
    conversation: Conversation,
    naming: Naming,
    params: JsonObject,
    call: (headers: Readonly<Record<string, string>>) => Promise<JsonObject>,
    listTools: () => Promise<MemberList>,
  ): Promise<JsonObject>;
}

export function createParameterHeaders(): ParameterHeaders {
  const known = boundedCache<string, MirroredTools>(maxKnown);
  const keyOf = ({ call }: Conversation, { member }: Naming) =>
    JSON.stringify([call.caller.grantId, member.route.id]);
  /** Clients of 2026-07-28 read the schema themselves: their own headers must stay as they are. */
  const sends = ({ client }: Conversation) => client.era === "legacy";
  const wants = ({ session }: Conversation, { member }: Naming) =>
    session.state.members[member.route.id]?.era === "modern";

  function learn(conversation: Conversation, naming: Naming, list: MemberList): void {
    if (list.kind !== "listed" || !sends(conversation) || !wants(conversation, naming)) return;
    const key = keyOf(conversation, naming);
    const tools = new Map<string, readonly Mirrored[]>();
    let bytes = 0;
    for (const { item } of list.items) {
      const mirrored = mirroredBy(item);
      if (mirrored.length === 0) continue;
      bytes += jsonBytes([item.name, mirrored]);
      if (bytes > maxKnownBytes) break;
      tools.set(String(item.name), mirrored);
    }
    if (tools.size > 0) known.set(key, tools);
    else known.delete(key);
  }

  return {
    learn,
    async calling(conversation, naming, params, call, listTools) {
      if (!sends(conversation)) return call({});
      const name = String(params.name);
      const mirrored = known.get(keyOf(conversation, naming))?.get(name) ?? [];
      try {
        return await call(headersOf(mirrored, params.arguments));
      } catch (error) {
        if (!(error instanceof ProtocolError) || error.code !== headerMismatch) throw error;
        if (!wants(conversation, naming)) throw error;
        const list = await listTools();
        learn(conversation, naming, list);
        const tool = list.kind === "listed" && list.items.find(({ item }) => item.name === name);
        if (!tool) throw error;
        return call(headersOf(mirroredBy(tool.item), params.arguments));
      }
    },
  };
}
