import type { ClientCapabilities, Implementation } from "@modelcontextprotocol/server";
import type { AggregateCall } from "./aggregation.ts";
import type { Naming } from "./names.ts";
import type { Session } from "./session.ts";

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
