import { ProtocolError, ProtocolErrorCode } from "@modelcontextprotocol/server";
import type { Logger } from "../telemetry/logger.ts";
import { Places } from "../util/at-once.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded, MemberFailed } from "./errors.ts";
import { arrayOf, isObject, type JsonObject, stringOf } from "./json.ts";
import type { MemberCalls } from "./member-calls.ts";
import { capabilitiesOf } from "./member-clients.ts";
import type { MemberSessions } from "./member-sessions.ts";
import type { Naming } from "./names.ts";
import { jsonBytes } from "./session.ts";

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
/** Longest list of one member, and longest entry of it, bytes of JSON; longer entries and the rest are left out. */
const maxListBytes = 4 * 1024 * 1024;
const maxEntryBytes = 256 * 1024;
/** Entries on a page of ours, and their bytes of JSON. */
const pageEntries = 1_000;
const pageBytes = 1024 * 1024;
/** Lists that are fetched at once: in this process, for one user, and of one member. */
const maxFetching = 256;
const maxFetchingPerUser = 32;
const maxFetchingPerMember = 64;

/** An entry of a list, and its length as a member sends it, bytes of JSON: measured once. */
export interface ListEntry {
  readonly item: JsonObject;
  readonly bytes: number;
}

/** What one member lists; `unavailable` if it cannot be asked now. */
export type MemberList =
  | { readonly kind: "listed"; readonly items: readonly ListEntry[] }
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

/** @param deps.onLeftOut called when a member's list or an entry is too long */
export function lists(deps: {
  readonly calls: MemberCalls;
  readonly sessions: MemberSessions;
  readonly onLeftOut: () => void;
}): Lists {
  const fetching = new Places(maxFetching);

  async function all(conversation: Conversation, naming: Naming, kind: ListKind, signal: AbortSignal) {
    const session = await deps.sessions.of(conversation, naming);
    // Members need not implement what they do not declare.
    if (!(kind.capability in capabilitiesOf(session))) return [];
    const items: ListEntry[] = [];
    let bytes = 0;
    let cursor: string | undefined;
    for (let pages = 0; pages < maxPages && items.length < maxEntries; pages += 1) {
      const params = cursor === undefined ? undefined : { cursor };
      const page = await deps.calls.call(conversation, naming, {
        method: kind.method,
        params,
        signal,
        timeoutMs: memberMs,
      });
      for (const item of arrayOf(page[kind.field]).filter(isObject)) {
        const more = jsonBytes(item);
        if (bytes + more > maxListBytes || more > maxEntryBytes) deps.onLeftOut();
        if (bytes + more > maxListBytes) return items;
        if (more > maxEntryBytes) continue;
        bytes += more;
        items.push({ item, bytes: more });
      }
      const next = stringOf(page.nextCursor);
      if (next === undefined || next === cursor) break;
      cursor = next;
    }
    return items.slice(0, maxEntries);
  }

  return {
    async ofMember(conversation, naming, kind, signal) {
      let leave: () => void;
      try {
        const turn = AbortSignal.timeout(memberMs);
        leave = await fetching.wait(
          signal ? AbortSignal.any([signal, turn]) : turn,
          { key: `user ${conversation.call.caller.userId}`, max: maxFetchingPerUser },
          { key: `member ${naming.member.route.id}`, max: maxFetchingPerMember },
        );
      } catch (error) {
        return { kind: "unavailable", error };
      }
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
        leave();
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
  entriesOf: readonly { readonly member: string; readonly items: readonly ListEntry[] }[],
  start: Position | undefined,
): { readonly items: readonly JsonObject[]; readonly nextCursor?: string } {
  const items: JsonObject[] = [];
  let bytes = 0;
  for (const { member, items: own } of entriesOf)
    for (let index = start?.member === member ? start.index : 0; index < own.length; index += 1) {
      const { item, bytes: more } = own[index] ?? { item: {}, bytes: 0 };
      bytes += more;
      if (items.length === pageEntries || (bytes > pageBytes && items.length > 0))
        return { items, nextCursor: cursorOf({ member, index }) };
      items.push(item);
    }
  return { items };
}

/** Tells whether the entries of the members, as they become known in any order, are more than one page. */
export function pageFilling(start: Position | undefined) {
  let entries = 0;
  let bytes = 0;
  return {
    add({ member, items }: { readonly member: string; readonly items: readonly ListEntry[] }): void {
      const own = start?.member === member ? items.slice(start.index) : items;
      entries += own.length;
      bytes += own.reduce((sum, item) => sum + item.bytes, 0);
    },
    isFull: () => entries > pageEntries || bytes > pageBytes,
  };
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
