import {
  InMemoryServerEventBus,
  type ServerContext,
  type ServerEventBus,
} from "@modelcontextprotocol/server";
import type { AggregationDeps } from "./aggregation.ts";
import type { Conversation } from "./conversation.ts";
import { jsonRpcError } from "./http.ts";
import type { JsonObject } from "./json.ts";
import type { MemberList } from "./lists.ts";
import type { MemberCalls } from "./member-calls.ts";
import { capabilitiesOf, type MemberClientDeps } from "./member-clients.ts";
import type { MemberSessions } from "./member-sessions.ts";
import type { Naming } from "./names.ts";
import type { Subscriptions } from "./requests.ts";

export interface Notices extends Subscriptions {
  onConnected(conversation: Conversation, naming: Naming, ctx: ServerContext): void;
  onList(conversation: Conversation, naming: Naming, list: MemberList): void;
  onRootsChanged(conversation: Conversation): void;
  openStream(conversation: Conversation, request: Request): Promise<Response>;
  changes(conversation: Conversation, signal: AbortSignal, filter: unknown): ServerEventBus;
  onEnd(conversation: Conversation): void;
  close(): void;
}

export function notices(
  deps: AggregationDeps &
    MemberClientDeps & { readonly members: MemberSessions; readonly calls: MemberCalls },
): Notices {
  const { calls, members } = deps;
  return {
    async subscribe(conversation, naming, outer, inner) {
      const result = await calls.call(conversation, naming, {
        method: "resources/subscribe",
        params: { uri: inner },
      });
      await conversation.session.change((state) =>
        state.subscriptions.includes(outer)
          ? undefined
          : { ...state, subscriptions: [...state.subscriptions, outer] },
      );
      return result;
    },
    async unsubscribe(conversation, naming, outer, inner) {
      await conversation.session.change((state) => ({
        ...state,
        subscriptions: state.subscriptions.filter((uri) => uri !== outer),
      }));
      return calls.call(conversation, naming, { method: "resources/unsubscribe", params: { uri: inner } });
    },
    async setLevel(conversation, level): Promise<JsonObject> {
      await conversation.session.change((state) => ({ ...state, logLevel: level }));
      await Promise.all(
        conversation.namings.map(async (naming) => {
          const session = conversation.session.state.members[naming.member.route.id];
          if (session?.era !== "legacy" || !("logging" in capabilitiesOf(session))) return;
          await calls
            .call(conversation, naming, { method: "logging/setLevel", params: { level }, timeoutMs: 10_000 })
            .catch(() => {});
        }),
      );
      return {};
    },
    onConnected(_conversation, _naming, ctx) {
      ctx.mcpReq.notify({ method: "notifications/tools/list_changed" }).catch(() => {});
    },
    onList() {},
    onRootsChanged() {
      void members;
    },
    openStream: async () => jsonRpcError(405, -32_000, "Method not allowed."),
    changes: () => new InMemoryServerEventBus(),
    onEnd() {},
    close() {},
  };
}
