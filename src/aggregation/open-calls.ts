import { membersOf } from "../config/aggregates.ts";
import type { AggregateCall, AggregationDeps } from "./aggregation.ts";
import { accessTo } from "./consent.ts";
import { type Conversation, recheck } from "./conversation.ts";
import { MemberRemoved } from "./errors.ts";
import { type Naming, namingsOf } from "./names.ts";
import { untilRead } from "./until-read.ts";

type OpenCallDeps = Pick<AggregationDeps, "routes" | "people" | "mayReach" | "grantedMembers" | "logger">;

interface OpenCall {
  readonly conversation: Pick<Conversation, "call">;
  readonly naming: Naming;
  readonly cut: AbortController;
}

/**
 * The calls of members that this replica is making. A check of the member has allowed each of them once; they end when the person removes
 * the member from the application, or loses access to it.
 */
export class OpenCalls {
  readonly #deps: OpenCallDeps;
  readonly #open = new Set<OpenCall>();

  constructor(deps: OpenCallDeps) {
    this.#deps = deps;
  }

  /** @returns a signal that is aborted with `MemberRemoved`, and what must be called when the call has ended */
  add(
    conversation: OpenCall["conversation"],
    naming: Naming,
  ): { readonly signal: AbortSignal; readonly leave: () => void } {
    const entry = { conversation, naming, cut: new AbortController() };
    this.#open.add(entry);
    return { signal: entry.cut.signal, leave: () => void this.#open.delete(entry) };
  }

  /** Ends those of the calls that a change may concern which would no longer be allowed. */
  endSome(concerns: (call: AggregateCall) => boolean): Promise<void> {
    return this.#compare([...this.#open].filter(({ conversation }) => concerns(conversation.call)));
  }

  async #compare(some: readonly OpenCall[]): Promise<void> {
    const usable = new Map<string, Promise<ReadonlySet<string>>>();
    await untilRead(
      some,
      (entry) => this.#open.has(entry),
      async ({ conversation, naming, cut }) => {
        const { caller, route } = conversation.call;
        const key = JSON.stringify([caller.userId, caller.grantId, route.id]);
        const now = usable.get(key) ?? this.#usable(conversation.call);
        usable.set(key, now);
        if (!(await now).has(naming.member.route.id)) cut.abort(new MemberRemoved(naming));
      },
      (left, reason) => {
        this.#deps.logger.debug({ reason }, "reading which members a call may use failed");
        return this.#compare(left);
      },
    );
  }

  /** The ids of the members that a call may use as the route is now. */
  async #usable(call: AggregateCall): Promise<ReadonlySet<string>> {
    const { byId, config } = this.#deps.routes();
    const route = byId(call.route.id);
    const now = await recheck(this.#deps, call);
    if (now === undefined || !route?.enabled) return new Set();
    const { usable } = await accessTo(this.#deps, {
      call: now,
      namings: namingsOf(membersOf(config, route)),
    });
    return new Set([...usable].map(({ member }) => member.route.id));
  }
}
