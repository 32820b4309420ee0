import { mapAtOnce } from "../util/at-once.ts";
import { SingleFlight } from "../util/single-flight.ts";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded, MemberFailed } from "./errors.ts";
import { endSession, type MemberClientDeps, openSession } from "./member-clients.ts";
import { ResponseTooLong } from "./member-transport.ts";
import type { Naming } from "./names.ts";
import { jsonBytes, type MemberSession, type SessionState } from "./session.ts";

/** Longest session with a member, bytes of JSON: a client's session holds one of each member. */
const maxMemberBytes = 32 * 1024;
/** Sessions of one client that are ended at once. */
const maxEnding = 4;

/** The sessions with members that a client's session holds: opened when first needed, found by every replica. */
export interface MemberSessions {
  /**
   * The member's session, opened if there is none.
   * @param lost a session that the member no longer knows: it is replaced
   * @throws ConsentNeeded, MemberFailed, ProtocolError if the client's session is full
   */
  of(conversation: Conversation, naming: Naming, lost?: MemberSession): Promise<MemberSession>;
}

export function memberSessions(
  deps: MemberClientDeps & {
    readonly onOpened: (conversation: Conversation, naming: Naming, session: MemberSession) => void;
  },
): MemberSessions {
  const opening = new SingleFlight<MemberSession>();

  async function open(conversation: Conversation, naming: Naming, lost?: MemberSession) {
    const { session, call, client } = conversation;
    const { id } = naming.member.route;
    const opened = await openSession(deps, call, client, naming);
    if (!opened.ok) {
      if (opened.refusal.status === 401) throw new ConsentNeeded(naming);
      throw new MemberFailed(naming, opened.error, opened.refusal);
    }
    const mine = opened.session;
    if (jsonBytes(mine) > maxMemberBytes) {
      void endSession(deps, conversation, naming, mine).catch(() => {});
      throw new MemberFailed(naming, new ResponseTooLong(), {});
    }
    let theirs: MemberSession | undefined;
    const kept = await session
      .change((state): SessionState | undefined => {
        const now = state.members[id];
        theirs = now !== undefined && !isSame(now, lost) ? now : undefined;
        return theirs ? undefined : { ...state, members: { ...state.members, [id]: mine } };
      })
      .catch((error: unknown) => {
        void endSession(deps, conversation, naming, mine).catch(() => {});
        throw error;
      });
    if (theirs === undefined && kept) {
      deps.onOpened(conversation, naming, mine);
      return mine;
    }
    // Another request was faster, or the client's session has ended: a member's session that nobody knows of would never end.
    void endSession(deps, conversation, naming, mine).catch(() => {});
    return theirs ?? mine;
  }

  return {
    of(conversation, naming, lost) {
      const { id } = naming.member.route;
      const known = conversation.session.state.members[id];
      if (known !== undefined && !isSame(known, lost)) return Promise.resolve(known);
      return opening.run(`${conversation.session.handle}\n${id}`, () => open(conversation, naming, lost));
    },
  };
}

/** Ends the sessions with members of a client's session that has ended; members that fail forget them in their own time. */
export async function endSessions(
  deps: MemberClientDeps,
  conversation: Pick<Conversation, "call" | "client" | "namings">,
  members: SessionState["members"],
): Promise<void> {
  await mapAtOnce(conversation.namings, maxEnding, async (naming) => {
    const session = members[naming.member.route.id];
    if (session) await endSession(deps, conversation, naming, session).catch(() => {});
  });
}

/** Sessions of 2026-07-28 members have no id: what was discovered is compared. */
function isSame(one: MemberSession, other: MemberSession | undefined): boolean {
  return other !== undefined && JSON.stringify(one) === JSON.stringify(other);
}
