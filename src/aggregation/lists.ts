import { ProtocolError, ProtocolErrorCode } from "@modelcontextprotocol/server";
import type { Logger } from "../telemetry/logger.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded, MemberFailed } from "./errors.ts";
import { arrayOf, isObject, type JsonObject, stringOf } from "./json.ts";
import type { MemberCalls } from "./member-calls.ts";
import { capabilitiesOf } from "./member-clients.ts";
import type { MemberSessions } from "./member-sessions.ts";
import type { Naming } from "./names.ts";

/** A list of the protocol. */
export interface ListKind {
  readonly method: "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list";
  /** The field of the result that holds it. */
  readonly field: "tools" | "prompts" | "resources" | "resourceTemplates";
  readonly capability: "tools" | "prompts" | "resources";
  readonly rewrite: (naming: Naming, item: JsonObject) => JsonObject;
}

/** How long a member may take to list, ms, all pages and the opening of a session included. */
const memberMs = 10_000;
/** Pages and entries of one member's list; the rest is left out. */
const maxPages = 64;
const maxEntries = 5_000;
/** Entries on a page of ours. */
const pageEntries = 1_000;

/** What one member lists; `unavailable` if it cannot be asked now. */
export type MemberList =
  | { readonly kind: "listed"; readonly items: readonly JsonObject[] }
  | { readonly kind: "consent" }
  | { readonly kind: "unavailable"; readonly error: unknown };

export interface Lists {
  /** One member's complete list, with its own names. Never rejects. */
  ofMember(
    conversation: Conversation,
    naming: Naming,
    kind: ListKind,
    signal?: AbortSignal,
  ): Promise<MemberList>;
}

export function lists(deps: { readonly calls: MemberCalls; readonly sessions: MemberSessions }): Lists {
  async function all(conversation: Conversation, naming: Naming, kind: ListKind, signal: AbortSignal) {
    const session = await deps.sessions.of(conversation, naming);
    // Members need not implement what they do not declare.
    if (!(kind.capability in capabilitiesOf(session))) return [];
    const items: JsonObject[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < maxPages && items.length < maxEntries; pages += 1) {
      const params = cursor === undefined ? undefined : { cursor };
      const page = await deps.calls.call(conversation, naming, {
        method: kind.method,
        params,
        signal,
        timeoutMs: memberMs,
      });
      items.push(...arrayOf(page[kind.field]).filter(isObject));
      const next = stringOf(page.nextCursor);
      if (next === undefined || next === cursor) break;
      cursor = next;
    }
    return items.slice(0, maxEntries);
  }

  return {
    async ofMember(conversation, naming, kind, signal) {
      const deadline = AbortSignal.timeout(memberMs);
      const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
      const late = Promise.withResolvers<never>();
      const onAbort = () => late.reject(either.reason);
      either.addEventListener("abort", onAbort, { once: true });
      try {
        const items = await Promise.race([all(conversation, naming, kind, either), late.promise]);
        return { kind: "listed", items };
      } catch (error) {
        return error instanceof ConsentNeeded ? { kind: "consent" } : { kind: "unavailable", error };
      } finally {
        either.removeEventListener("abort", onAbort);
      }
    },
  };
}

/** Where the next page of ours begins: an index in the list of a member. It means the same to every replica. */
interface Position {
  readonly member: string;
  readonly index: number;
}

export function cursorOf(position: Position): string {
  return Buffer.from(JSON.stringify([position.member, position.index])).toString("base64url");
}

/** @throws ProtocolError invalid params (MCP, "Pagination") */
export function positionOf(cursor: unknown): Position | undefined {
  if (cursor === undefined) return undefined;
  try {
    const [member, index]: unknown[] = JSON.parse(Buffer.from(String(cursor), "base64url").toString());
    if (typeof member === "string" && typeof index === "number" && Number.isSafeInteger(index) && index >= 0)
      return { member, index };
  } catch {
    // Reported below.
  }
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Invalid cursor");
}

/**
 * One page of the members' lists, in the order of the members.
 *
 * @param entriesOf the entries of the members from the page's first one on
 */
export function pageOf(
  entriesOf: readonly { readonly member: string; readonly items: readonly JsonObject[] }[],
  start: Position | undefined,
): { readonly items: readonly JsonObject[]; readonly nextCursor?: string } {
  const items: JsonObject[] = [];
  for (const { member, items: own } of entriesOf) {
    const from = start?.member === member ? start.index : 0;
    const taken = own.slice(from, from + pageEntries - items.length);
    items.push(...taken);
    if (from + taken.length < own.length)
      return { items, nextCursor: cursorOf({ member, index: from + taken.length }) };
  }
  return { items };
}

/** Members whose state is remembered, per replica. */
const maxReported = 10_000;

/** Logs when a member can no longer be listed, and when it can again, not each time. */
export function listReports({ logger }: { readonly logger: Logger }) {
  const failing = boundedCache<string, true>(maxReported);
  return ({ call }: Conversation, { member }: Naming, list: MemberList): void => {
    const key = `${call.route.id} ${member.route.id}`;
    if (list.kind !== "unavailable") {
      if (failing.delete(key))
        logger.info(
          { route: member.route.id, via: call.route.id },
          "a member of an aggregated route is available again",
        );
      return;
    }
    if (failing.has(key)) return;
    failing.set(key, true);
    const reason = list.error instanceof MemberFailed ? list.error.reason : String(list.error);
    logger.warn(
      { route: member.route.id, via: call.route.id, reason },
      "a member of an aggregated route cannot be listed; the route is served without it",
    );
  };
}
