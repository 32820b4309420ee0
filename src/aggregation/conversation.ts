import type { ClientCapabilities, Implementation } from "@modelcontextprotocol/server";
import type { AggregateCall, AggregationDeps } from "./aggregation.ts";
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

/**
 * The call with the person's facts as they are now; undefined if they have left, or policy no longer lets them reach the route.
 * @throws (rejects) StoreUnavailable
 */
export async function recheck(
  { people, mayReach }: Pick<AggregationDeps, "people" | "mayReach">,
  call: AggregateCall,
): Promise<AggregateCall | undefined> {
  const { caller, route } = call;
  const person = caller.kind === "person" ? await people.find(caller.userId) : caller;
  if (person === undefined) return undefined;
  const now = { ...call, caller: { ...caller, ...person } };
  return mayReach(now.caller, route) ? now : undefined;
}

/** The conversation with its person, and its session as the store has it now; undefined if one of them may no longer have it. */
export async function reread(
  deps: Pick<AggregationDeps, "sessions" | "people" | "mayReach">,
  conversation: Conversation,
): Promise<Conversation | undefined> {
  const { client, logLevel: _before, ...rest } = conversation;
  const call = await recheck(deps, conversation.call);
  if (call === undefined) return undefined;
  const { userId, grantId } = call.caller;
  const session = await findSession(deps.sessions, conversation.session.handle, {
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
