import { setTimeout as delay } from "node:timers/promises";

/** The outcome of one call. `allowed`: an error that the client can act on; `wrong`: any other error. */
export type Outcome = "right" | "allowed" | "wrong" | "hung";

/** A repeatable call with a known response. */
export interface Call {
  readonly url: string;
  readonly token: string;
  /** The owner of the token that the upstream must see; undefined: none. */
  readonly owner: string | undefined;
  /** True for calls started when this caller must be rejected: then a result is wrong, and a challenge is right. */
  readonly refused?: (startedAt: number) => boolean;
}

export interface Observation {
  readonly call: Call;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly outcome: Outcome;
  /** Short description: `503 store_unavailable`. */
  readonly what: string;
  /** Seconds, if the response says so. */
  readonly retryAfter?: number;
}

/** A call that takes longer has hung, ms; a check takes 5 s at most. */
const hungMs = 12_000;

/** The same for thousands of calls at once, which also wait for Envoy and for this machine, ms. */
export const hungInCrowdMs = 30_000;

/** Makes one call and classifies its response. @param timeoutMs after this, it has hung */
export async function observe(
  fetch: typeof globalThis.fetch,
  call: Call,
  timeoutMs = hungMs,
): Promise<Observation> {
  const startedAt = Date.now();
  const done = (outcome: Outcome, what: string, retryAfter?: number): Observation => ({
    call,
    startedAt,
    endedAt: Date.now(),
    outcome,
    what,
    retryAfter,
  });
  try {
    const response = await fetch(call.url, {
      method: "POST",
      headers: {
        authorization: `Bearer ${call.token}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whose","arguments":{}}}',
      signal: AbortSignal.timeout(timeoutMs),
    });
    const body = await response.text();
    const refused = call.refused?.(startedAt) ?? false;
    if (response.status === 200) {
      const { result } = JSON.parse(body);
      if (result?.owner !== call.owner) return done("wrong", `token of ${result?.owner}`);
      return refused ? done("wrong", "allowed although revoked") : done("right", "200");
    }
    const error = errorOf(body);
    // Envoy's own response, without a body, if no replica can be reached.
    const what = `${response.status} ${error || "by Envoy"}`;
    if (response.status === 401 && response.headers.get("www-authenticate")?.includes("resource_metadata="))
      return done(refused ? "right" : "allowed", what);
    const retryAfter = response.headers.get("retry-after");
    if (response.status === 503 && retryAfter !== null) return done("allowed", what, Number(retryAfter));
    return done("wrong", what);
  } catch (error) {
    const name = error instanceof Error ? error.name : "";
    if (name === "TimeoutError") return done("hung", "no answer");
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : "";
    return done("wrong", `${error instanceof Error ? error.message : error} ${cause}`);
  }
}

function errorOf(body: string): string {
  try {
    const { error, error_description: description } = JSON.parse(body);
    return typeof error === "string" ? error : (description ?? "");
  } catch {
    return body.slice(0, 80);
  }
}

export interface Load {
  readonly seen: readonly Observation[];
  /** Duration of the longest pending call. */
  longestMs(): number;
  /** Pauses or resumes the calls. */
  rest(isResting: boolean): void;
  /** Makes no more calls, and waits for pending ones. */
  stop(): Promise<void>;
}

/**
 * A steady load: `perSecond` calls, cycling through `calls`, whether or not earlier ones have been answered.
 * @param options.timeoutMs as in `observe`
 * @param options.atMost maximum number of pending calls, on a machine that may stall; default: any number
 */
export function startLoad(options: {
  fetch: typeof globalThis.fetch;
  calls: () => readonly Call[];
  perSecond: number;
  timeoutMs?: number;
  atMost?: number;
}): Load {
  const seen: Observation[] = [];
  const underWay = new Map<Promise<void>, number>();
  const stopped = new AbortController();
  let next = 0;
  let resting = false;
  const run = async () => {
    const startedAt = performance.now();
    let made = 0;
    while (!stopped.signal.aborted) {
      const due = ((performance.now() - startedAt) / 1000) * options.perSecond;
      // After a pause of this process, missed calls are not made up for at once.
      if (due - made > options.perSecond) made = due - options.perSecond;
      if (resting) made = due;
      for (; made < due; made++) {
        if (options.atMost !== undefined && underWay.size >= options.atMost) continue;
        const calls = options.calls();
        // A stride coprime to the number of calls mixes users and routes.
        const call = calls[(next++ * 7919) % calls.length];
        if (!call) continue;
        const one: Promise<void> = observe(options.fetch, call, options.timeoutMs).then((observation) => {
          seen.push(observation);
          underWay.delete(one);
        });
        underWay.set(one, Date.now());
      }
      await delay(10);
    }
  };
  const running = run();
  return {
    seen,
    longestMs: () => Date.now() - Math.min(Date.now(), ...underWay.values()),
    rest(isResting) {
      resting = isResting;
    },
    async stop() {
      stopped.abort();
      await running;
      await Promise.all(underWay.keys());
    },
  };
}
