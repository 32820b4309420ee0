import type { Report, Snapshot } from "./messages.ts";
import { RetiredMetrics } from "./retired-metrics.ts";
import type { WorkerProcess } from "./worker-process.ts";

/** How long a worker may take to answer; then its previous answer counts, ms. */
const answerMs = 2_000;

/** Why workers were started again. */
export type RestartReason = "ended" | "rolling_restart";

/** What is measured: a worker. */
export type Measured = Pick<WorkerProcess, "state" | "snapshot" | "send">;

/** Collects the metrics of all workers, for the one that was asked for them. */
export class Gathering {
  readonly #workers: () => Iterable<Measured>;
  readonly #retired = new RetiredMetrics();
  readonly #waiting = new Map<number, { readonly worker: Measured; readonly done: () => void }>();
  readonly #restarts = new Map<RestartReason, number>([
    ["ended", 0],
    ["rolling_restart", 0],
  ]);
  #requests = 0;

  constructor(workers: () => Iterable<Measured>) {
    this.#workers = workers;
  }

  restarted(reason: RestartReason): void {
    this.#restarts.set(reason, (this.#restarts.get(reason) ?? 0) + 1);
  }

  /** Keeps the counts of a process that has ended. */
  retire(ended: Measured): void {
    this.#retired.add(ended.snapshot);
    for (const { worker, done } of this.#waiting.values()) if (worker === ended) done();
  }

  answered({ request }: Extract<Report, { kind: "snapshot" }>): void {
    this.#waiting.get(request)?.done();
  }

  /** Sends `asking` the metrics of all. */
  async answer(asking: Measured, request: number): Promise<void> {
    const workers = [...this.#workers()].filter(({ state }) => state !== "ended");
    await Promise.all(workers.map((worker) => this.#measure(worker)));
    // One that has ended meanwhile is among the retired.
    const left = workers.filter(({ state }) => state !== "ended");
    const snapshots = [...left.map(({ snapshot }) => snapshot), this.#retired.snapshot(), this.#own(left)];
    asking.send({ kind: "gathered", request, snapshots });
  }

  #measure(worker: Measured): Promise<void> {
    this.#requests += 1;
    const request = this.#requests;
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(late);
        this.#waiting.delete(request);
        resolve();
      };
      const late = setTimeout(done, answerMs);
      this.#waiting.set(request, { worker, done });
      worker.send({ kind: "snapshot", request });
    });
  }

  /** What the supervisor itself measures. `createMetrics` describes its two metrics of workers. */
  #own(workers: readonly Measured[]): Snapshot {
    const { user, system } = process.cpuUsage();
    const supervisor = { worker: "supervisor" };
    const of = (
      name: string,
      type: "gauge" | "counter",
      values: [Record<string, string>, number][],
      help = "",
    ) => ({
      ...{ name, help, type, aggregator: "sum" },
      values: values.map(([labels, value]) => ({ labels, value })),
    });
    const inState = (state: Measured["state"]) => workers.filter((one) => one.state === state).length;
    return [
      of(
        "envoy_mcp_auth_workers",
        "gauge",
        (["starting", "ready", "draining"] as const).map((state) => [{ state }, inState(state)]),
      ),
      of(
        "envoy_mcp_auth_worker_restarts_total",
        "counter",
        [...this.#restarts].map(([reason, times]) => [{ reason }, times]),
      ),
      of("process_resident_memory_bytes", "gauge", [[supervisor, process.memoryUsage.rss()]]),
      of("process_cpu_seconds_total", "counter", [[supervisor, (user + system) / 1e6]]),
    ];
  }
}
