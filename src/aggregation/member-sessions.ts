import { SingleFlight } from "../util/single-flight.ts";
import type { Conversation } from "./conversation.ts";
import { ConsentNeeded, MemberFailed } from "./errors.ts";
import { endSession, type MemberClientDeps, openSession } from "./member-clients.ts";
import type { Naming } from "./names.ts";
import type { MemberSession, SessionState } from "./session.ts";

/** The sessions with members that a client's session holds: opened when first needed, found by every replica. */
export interface MemberSessions {
  /**
   * The member's session, opened if there is none.
   * @param lost a session that the member no longer knows: it is replaced
   * @throws ConsentNeeded, MemberFailed
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
    let theirs: MemberSession | undefined;
    const kept = await session.change((state): SessionState | undefined => {
      const now = state.members[id];
      theirs = now !== undefined && !isSame(now, lost) ? now : undefined;
      return theirs ? undefined : { ...state, members: { ...state.members, [id]: mine } };
    });
    if (theirs === undefined && kept) {
      deps.onOpened(conversation, naming, mine);
      return mine;
    }
    // Another request was faster, or the client's session has ended: a member's session that nobody knows of would never end.
    endSession(deps, conversation, naming, mine).catch(() => {});
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

/** Sessions of 2026-07-28 members have no id: what was discovered is compared. */
function isSame(one: MemberSession, other: MemberSession | undefined): boolean {
  return other !== undefined && JSON.stringify(one) === JSON.stringify(other);
}
