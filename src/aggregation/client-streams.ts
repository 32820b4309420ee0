import { membersOf } from "../config/aggregates.ts";
import type { RouteTable } from "../config/route-table.ts";
import type { AggregateCall } from "./aggregation.ts";
import type { ClientStream, ClientStreamDeps } from "./client-stream.ts";
import { type Naming, namingsOf } from "./names.ts";
import { isToBeExtended } from "./session.ts";

/** Streams of one grant on one replica; the oldest ends when another one is opened. */
const maxPerGrant = 16;
/**
 * How often it is looked whether a message or a notification was missed, ms: one statement for all streams of the replica, and one look at
 * the policy for each, which may depend on the time. Streams are read from the store only if something differs.
 */
const missedMs = 30_000;

/** Clients that are told when lists change. */
export const allLists = ["tools", "prompts", "resources"] as const;

/** The open streams of clients on this replica. */
export class ClientStreams {
  readonly #deps: ClientStreamDeps;
  readonly #open = new Set<ClientStream>();
  /** Every message to all replicas looks here, whose session it concerns or not. */
  readonly #bySession = new Map<string, Set<ClientStream>>();
  /** Those whose last comparison has failed. */
  readonly #stale = new Set<ClientStream>();
  readonly #timer: NodeJS.Timeout;
  readonly #unsubscribe: () => void;
  #table: RouteTable;

  constructor(deps: ClientStreamDeps) {
    this.#deps = deps;
    this.#table = deps.routes();
    this.#unsubscribe = deps.onRoutesChanged(() => void this.#followConfig());
    this.#timer = setInterval(() => void this.#findMissed(), missedMs).unref();
  }

  get size(): number {
    return this.#open.size;
  }

  add(stream: ClientStream): void {
    const { grantId } = stream.conversation.call.caller;
    const own = [...this.#open].filter(({ conversation }) => conversation.call.caller.grantId === grantId);
    for (const oldest of own.slice(0, Math.max(0, own.length + 1 - maxPerGrant))) {
      this.#deps.metrics.limitsReached.inc({ limit: "aggregation_streams" });
      this.remove(oldest);
    }
    this.#open.add(stream);
    const ofSession = this.#bySession.get(stream.session) ?? new Set();
    this.#bySession.set(stream.session, ofSession.add(stream));
    this.#count();
  }

  remove(stream: ClientStream): void {
    this.#open.delete(stream);
    this.#stale.delete(stream);
    const ofSession = this.#bySession.get(stream.session);
    ofSession?.delete(stream);
    if (ofSession?.size === 0) this.#bySession.delete(stream.session);
    stream.close();
    this.#count();
  }

  #count(): void {
    this.#deps.metrics.aggregationStreams.set(this.#open.size);
  }

  /** @param session hash of the session's handle */
  of(session: string): readonly ClientStream[] {
    return [...(this.#bySession.get(session) ?? [])];
  }

  /** Compares the streams of one session, or all, with what the store says. */
  async refresh(session?: string): Promise<void> {
    const some = session === undefined ? [...this.#open] : this.of(session);
    await Promise.all(some.map((stream) => this.#refreshOne(stream, stream.conversation.namings)));
  }

  /** The same for those whose call a change may concern. */
  async refreshSome(concerns: (call: AggregateCall) => boolean): Promise<void> {
    const some = [...this.#open].filter(({ conversation }) => concerns(conversation.call));
    await Promise.all(some.map((stream) => this.#refreshOne(stream, stream.conversation.namings)));
  }

  async #refreshOne(stream: ClientStream, namings: readonly Naming[]): Promise<boolean> {
    let changed = false;
    try {
      this.#stale.delete(stream);
      changed = await stream.refresh(namings);
    } catch (error) {
      // The store is unavailable: the next refresh may succeed.
      this.#stale.add(stream);
      const reason = error instanceof Error ? error.message : String(error);
      this.#deps.logger.debug({ reason }, "refreshing a stream of an aggregated route failed");
    }
    if (stream.closed) this.remove(stream);
    return changed;
  }

  /** Compares streams whose session or policy is not what they know, although nobody has said so. */
  async #findMissed(): Promise<void> {
    void this.#followConfig();
    const some = [...this.#open];
    if (some.length === 0) return;
    const handles = new Set(some.map(({ conversation }) => conversation.session.handle));
    try {
      const now = await this.#deps.sessions.versions([...handles]);
      const differs = (stream: ClientStream) => {
        const { session } = stream.conversation;
        const found = now.get(session.handle);
        if (found?.version !== session.version || isToBeExtended(found)) return true;
        return this.#stale.has(stream) || stream.policyDiffers();
      };
      await Promise.all(
        some.filter(differs).map(async (stream) => {
          if (await this.#refreshOne(stream, stream.conversation.namings)) stream.changed(allLists);
        }),
      );
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#deps.logger.warn({ reason }, "comparing the streams of aggregated routes failed");
    }
  }

  /** Members that were added or removed, and their policies, change what clients see. */
  async #followConfig(): Promise<void> {
    const table = this.#deps.routes();
    if (table === this.#table) return;
    this.#table = table;
    await Promise.all(
      [...this.#open].map(async (stream) => {
        const { call, namings } = stream.conversation;
        const route = table.byId(call.route.id);
        if (!route?.enabled) return this.remove(stream);
        const now = namingsOf(membersOf(table.config, route));
        const changed = await this.#refreshOne(stream, now);
        if (changed || JSON.stringify(now) !== JSON.stringify(namings)) stream.changed(allLists);
      }),
    );
  }

  /** Ends all streams: clients open them at another replica. */
  end(): void {
    for (const stream of [...this.#open]) this.remove(stream);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#unsubscribe();
    this.end();
  }
}
