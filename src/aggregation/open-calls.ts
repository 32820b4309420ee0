import type { AggregateCall, AggregationDeps } from "./aggregation.ts";
import { accessTo } from "./consent.ts";
import { type Conversation, recheck } from "./conversation.ts";
import { MemberRemoved } from "./errors.ts";
import type { Naming } from "./names.ts";

interface OpenCall {
  readonly conversation: Pick<Conversation, "call" | "namings">;
  readonly naming: Naming;
  readonly cut: AbortController;
}

/**
 * The calls of members that this replica is making. A check of the member has allowed each of them once; they end when the person removes
 * the member from the application, or loses access to it.
 */
export class OpenCalls {
  readonly #deps: Pick<AggregationDeps, "people" | "mayReach" | "grantedMembers" | "logger">;
  readonly #open = new Set<OpenCall>();

  constructor(deps: Pick<AggregationDeps, "people" | "mayReach" | "grantedMembers" | "logger">) {
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
  async endSome(concerns: (call: AggregateCall) => boolean): Promise<void> {
    const some = [...this.#open].filter(({ conversation }) => concerns(conversation.call));
    const usable = new Map<string, Promise<ReadonlySet<string>>>();
    try {
      for (const { conversation, naming, cut } of some) {
        const { caller, route } = conversation.call;
        const key = JSON.stringify([caller.userId, caller.grantId, route.id]);
        const now = usable.get(key) ?? this.#usable(conversation);
        usable.set(key, now);
        if (!(await now).has(naming.member.route.id)) cut.abort(new MemberRemoved(naming));
      }
    } catch (error) {
      // The store is unavailable: calls have a time limit.
      const reason = error instanceof Error ? error.message : String(error);
      this.#deps.logger.debug({ reason }, "reading which members a call may use failed");
    }
  }

  async #usable({ call, namings }: OpenCall["conversation"]): Promise<ReadonlySet<string>> {
    const now = await recheck(this.#deps, call);
    if (now === undefined) return new Set();
    const { usable } = await accessTo(this.#deps, { call: now, namings });
    return new Set([...usable].map(({ member }) => member.route.id));
  }
}
