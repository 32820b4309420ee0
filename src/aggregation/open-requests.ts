import type { Change } from "../store/notifications/notifications.ts";
import type { AggregateCall, AggregationDeps } from "./aggregation.ts";
import { recheck } from "./conversation.ts";
import type { ClientRequest } from "./http.ts";
import { untilRead } from "./until-read.ts";

interface OpenRequest {
  readonly call: AggregateCall;
  readonly end: () => void;
}

/**
 * The requests of clients that this replica is answering, streams too. A check has allowed each of them once; they end when it would no
 * longer: with their grant, or with their person's access.
 */
export class OpenRequests {
  readonly #deps: Pick<AggregationDeps, "people" | "mayReach" | "grantedMembers" | "logger">;
  readonly #onChange: (concerns: (call: AggregateCall) => boolean) => void;
  readonly #onEnded: (grantId: string) => void;
  readonly #open = new Set<OpenRequest>();
  readonly #unsubscribe: () => void;

  /**
   * @param onChange called with the requests that a change may concern, after those that it ends have ended
   * @param onEnded called when a grant has no members: it has been revoked, or all were removed
   */
  constructor(
    deps: Pick<AggregationDeps, "people" | "mayReach" | "grantedMembers" | "logger" | "notifications">,
    onChange: (concerns: (call: AggregateCall) => boolean) => void,
    onEnded: (grantId: string) => void,
  ) {
    this.#deps = deps;
    this.#onChange = onChange;
    this.#onEnded = onEnded;
    this.#unsubscribe = deps.notifications.subscribe((change) => void this.#follow(change));
  }

  add(call: AggregateCall, { onEnd, end }: Pick<ClientRequest, "onEnd" | "end">): void {
    const entry = { call, end };
    this.#open.add(entry);
    onEnd(() => this.#open.delete(entry));
  }

  async #follow(change: Change): Promise<void> {
    const concerns = concernedBy(change);
    if (concerns === undefined) return;
    if (change.table === "grant") await this.#endGrant(change.grantId);
    await this.#compare([...this.#open].filter(({ call }) => concerns(call)));
    this.#onChange(concerns);
  }

  /** Ends those of the requests that would no longer be allowed. */
  async #compare(some: readonly OpenRequest[]): Promise<void> {
    const lasting = new Map<string, Promise<boolean>>();
    await untilRead(
      some,
      (entry) => this.#open.has(entry),
      async ({ call, end }) => {
        const key = JSON.stringify([call.caller.userId, call.caller.grantId, call.route.id]);
        const lasts = lasting.get(key) ?? this.#lasts(call);
        lasting.set(key, lasts);
        if (!(await lasts)) end();
      },
      (left, reason) => {
        this.#deps.logger.debug({ reason }, "reading what a change concerns failed");
        return this.#compare(left);
      },
    );
  }

  async #endGrant(grantId: string): Promise<void> {
    try {
      if ((await this.#deps.grantedMembers(grantId)).size === 0) this.#onEnded(grantId);
    } catch (error) {
      // The store is unavailable: parked calls end after ten minutes.
      const reason = error instanceof Error ? error.message : String(error);
      this.#deps.logger.debug({ reason }, "reading the members of a grant failed");
    }
  }

  async #lasts(call: AggregateCall): Promise<boolean> {
    if ((await recheck(this.#deps, call)) === undefined) return false;
    return (await this.#deps.grantedMembers(call.caller.grantId)).size > 0;
  }

  close(): void {
    this.#unsubscribe();
  }
}

/** Undefined: it concerns no request. */
function concernedBy(change: Change): ((call: AggregateCall) => boolean) | undefined {
  switch (change.table) {
    case "grant":
      return ({ caller }) => caller.grantId === change.grantId;
    case "browser_session":
      return ({ caller }) => caller.userId === change.userId;
    case "everything":
      return () => true;
    default:
      return undefined;
  }
}
