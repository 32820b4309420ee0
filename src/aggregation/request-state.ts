import {
  createRequestStateCodec,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from "@modelcontextprotocol/server";
import type { Conversation } from "./conversation.ts";

/**
 * What a client must bring back with its answers (`requestState`, MCP 2026-07-28, "Multi Round-Trip Requests"). It is signed with the key
 * of the client's session, so it is valid for one user, grant and route only, on every replica.
 */
export interface QuestionState {
  /** The call that was made: the member's id, the method, and the name or URI as the client knows it. */
  readonly call: readonly [member: string, method: string, name: string];
  /** The member's own state. */
  readonly inner?: string;
  /** The call of the member that waits for the answers, and the replica that holds it. */
  readonly parked?: { readonly id: string; readonly replica: string };
}

/** How long a person may take to answer, seconds. */
const lifeSeconds = 600;

function codec({ session }: Conversation) {
  return createRequestStateCodec<QuestionState>({
    key: Buffer.from(session.state.stateKey, "base64url"),
    ttlSeconds: lifeSeconds,
  });
}

export function signState(conversation: Conversation, state: QuestionState): Promise<string> {
  return codec(conversation).mint(state);
}

/**
 * The state that a request brings back, if any.
 * @throws ProtocolError invalid params: forged, expired, or of another call or client
 */
export async function readState(
  conversation: Conversation,
  call: QuestionState["call"],
  ctx: ServerContext,
): Promise<QuestionState | undefined> {
  const sent = ctx.mcpReq.requestState<unknown>();
  if (sent === undefined) return undefined;
  const state = await codec(conversation)
    .verify(String(sent), ctx)
    .catch(() => undefined);
  if (state !== undefined && JSON.stringify(state.call) === JSON.stringify(call)) return state;
  throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Invalid or expired requestState", {
    reason: "invalid_request_state",
  });
}
