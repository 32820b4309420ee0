import type { ClientCapabilities, Implementation } from "@modelcontextprotocol/server";
import type { AggregateSessions } from "../store/aggregate-sessions.ts";
import type { AggregateCall } from "./aggregation.ts";
import type { Naming } from "./names.ts";
import { findSession, type Session } from "./session.ts";

/** What a client is: declared by `initialize`, or by each request since 2026-07-28. */
export interface ClientFacts {
  readonly era: "legacy" | "modern";
  readonly protocolVersion: string;
  readonly info: Implementation;
  readonly capabilities: ClientCapabilities;
}

/** One HTTP request of a client: the call that the check has allowed, its client and its session. */
export interface Conversation {
  readonly call: AggregateCall;
  readonly client: ClientFacts;
  readonly session: Session;
  /** All members of the route, in its order. */
  readonly namings: readonly Naming[];
  /** The least severe log messages that the client wants; absent: all that members send, or none since 2026-07-28. */
  readonly logLevel?: string;
  /** Headers that mirror parameters of the call (`Mcp-Param-*`); names in lower case. */
  readonly parameterHeaders: Readonly<Record<string, string>>;
}

/** The conversation with its session as the store has it now; undefined if it has ended. */
export async function reread(
  store: AggregateSessions,
  conversation: Conversation,
): Promise<Conversation | undefined> {
  const { call, client, logLevel: _before, ...rest } = conversation;
  const { userId, grantId } = call.caller;
  const session = await findSession(store, conversation.session.handle, {
    userId,
    grantId,
    routeId: call.route.id,
  });
  if (session === undefined) return undefined;
  const { logLevel } = session.state;
  return {
    ...rest,
    call,
    client,
    session,
    ...(client.era === "legacy" && logLevel !== undefined ? { logLevel } : {}),
  };
}
