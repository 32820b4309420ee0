import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { loopbackFetch } from "../../../dev/demo/loopback-fetch.ts";
import { type Call, hungInCrowdMs, type Observation, observe } from "./load.ts";

/** People who all call until their call is right. */
export interface Crowd {
  readonly calls: readonly Pick<Call, "url" | "token" | "owner">[];
  /** Envoy's public port, and its CA as PEM. */
  readonly edge: { readonly port: number; readonly ca: string };
  /** Calls at a time. */
  readonly atOnce: number;
  /** This share of the people does not wait as the response says, but calls once a second. */
  readonly ignoring: number;
}

/** An answer to the call with this index. */
export type Answer = Omit<Observation, "call"> & { readonly index: number };

/**
 * A crowd in a thread of its own, connected: servers of the test, which run in the main thread, must not wait for it.
 * @returns `begin` makes the calls; its promise resolves when all have been right, or after `stop`
 */
export async function connectCrowd(
  crowd: Crowd,
): Promise<{ begin(): Promise<readonly Answer[]>; stop(): void; close(): Promise<unknown> }> {
  const worker = new Worker(new URL(import.meta.url), { workerData: crowd });
  // An error in the thread rejects, and ends it.
  await once(worker, "message");
  return {
    async begin() {
      worker.postMessage("begin");
      const [answers] = await once(worker, "message");
      return answers;
    },
    stop: () => worker.postMessage("stop"),
    close: () => worker.terminate(),
  };
}

/** A function that waits for one of `count` places, and returns how to leave it. */
function places(count: number): () => Promise<() => void> {
  let taken = 0;
  const waiting: (() => void)[] = [];
  const leave = () => {
    const next = waiting.shift();
    if (next) next();
    else taken--;
  };
  return async () => {
    if (taken < count) taken++;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    return leave;
  };
}

/** Opens the connections: people are connected already, and a thousand handshakes are not what is tested. */
async function connect({ calls, edge, atOnce, ignoring }: Crowd) {
  // One HTTP/2 connection has room for a hundred calls.
  const { fetch, close } = loopbackFetch(edge.ca, edge.port, { allowH2: false, keepAliveMs: 45_000 });
  const { origin, pathname } = new URL(calls[0]?.url ?? "");
  // Envoy closes connections whose handshake takes too long, as on a machine that is busy with the others.
  const open = async (triesLeft = 5): Promise<void> => {
    try {
      await (await fetch(`${origin}/.well-known/oauth-protected-resource${pathname}`)).arrayBuffer();
    } catch (error) {
      if (triesLeft === 0) throw error;
      await open(triesLeft - 1);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, () => open()));
  const free = places(atOnce);
  async function call(stop: AbortSignal): Promise<Answer[]> {
    const answers: Answer[] = [];
    await Promise.all(
      calls.map(async (one, index) => {
        while (!stop.aborted) {
          const leave = await free();
          const observation = stop.aborted ? undefined : await observe(fetch, one, hungInCrowdMs);
          leave();
          if (!observation) return;
          const { call: _call, ...answer } = observation;
          answers.push({ ...answer, index });
          if (answer.outcome === "right") return;
          const { retryAfter = 1 } = answer;
          const waitMs = index < ignoring * calls.length ? 1_000 : retryAfter * 1_000;
          await delay(waitMs, undefined, { signal: stop, ref: false }).catch(() => {});
        }
      }),
    );
    return answers;
  }
  return { call, close };
}

if (!isMainThread && parentPort) {
  const port = parentPort;
  const stop = new AbortController();
  const { call, close } = await connect(workerData);
  port.postMessage("connected");
  await once(port, "message");
  port.once("message", () => stop.abort());
  port.postMessage(await call(stop.signal));
  await close();
  port.close();
}
