import cluster, { type Worker } from "node:cluster";
import { workerExecArgv } from "./heap-shape.ts";
import { type Order, type Report, type Snapshot, workerVariable } from "./messages.ts";

/** How a process ended: `exit code 1`, `SIGKILL`, or its own message. */
export interface Ended {
  readonly reason: string;
  /** It has said why it cannot start. */
  readonly failed: boolean;
}

/** A process of the supervisor that serves, or is about to. */
export class WorkerProcess {
  readonly number: number;
  readonly pid: number | undefined;
  readonly startedAt = performance.now();
  /** True once it serves, false if it ended before. */
  readonly ready: Promise<boolean>;
  readonly ended: Promise<Ended>;
  state: "starting" | "ready" | "draining" | "ended" = "starting";
  /** The newest of what it has measured. */
  snapshot: Snapshot = [];
  readonly #worker: Worker;

  /**
   * Starts it.
   * @param umask the process's own; this process's is that of the sockets, which it binds for its workers
   * @param onReport gets what the process reports, except what this class keeps
   */
  constructor(
    place: { readonly number: number; readonly workers: number; readonly replaces: boolean },
    umask: number,
    onReport: (report: Report, from: WorkerProcess) => void,
  ) {
    this.number = place.number;
    const sockets = process.umask(umask);
    try {
      const variable = `${place.number}/${place.workers}${place.replaces ? "/replaces" : ""}`;
      cluster.setupPrimary({ execArgv: [...workerExecArgv(place.workers)] });
      this.#worker = cluster.fork({ [workerVariable]: variable });
    } finally {
      process.umask(sockets);
    }
    this.pid = this.#worker.process.pid;
    let failure: string | undefined;
    this.ended = new Promise((resolve) => {
      this.#worker.once("exit", (code, signal) => {
        this.state = "ended";
        const reason = failure ?? (signal ? `ended by ${signal}` : `exit code ${code}`);
        resolve({ reason, failed: failure !== undefined });
      });
      // It could not be started at all: there is no exit then. Other errors are those of a process that has just ended.
      this.#worker.on("error", (error) => {
        if (this.#worker.process.pid !== undefined) return;
        this.state = "ended";
        resolve({ reason: error.message, failed: true });
      });
    });
    this.ready = new Promise((resolve) => {
      this.#worker.on("message", (report: Report) => {
        if (report.kind === "failed") failure = report.message;
        else if (report.kind === "snapshot" || report.kind === "last") this.snapshot = report.snapshot;
        if (report.kind === "ready") {
          if (this.state === "starting") this.state = "ready";
          resolve(true);
        } else onReport(report, this);
      });
      void this.ended.then(() => resolve(false));
    });
  }

  send(order: Order): void {
    // It may have ended, which is noticed elsewhere.
    if (this.#worker.isConnected()) this.#worker.send(order, () => undefined);
  }

  /** Has it finish its calls and exit. @returns when it has ended */
  async drain(replaced: boolean, graceMs: number): Promise<void> {
    if (this.state !== "ended") this.state = "draining";
    this.send({ kind: "drain", replaced });
    const cutOff = setTimeout(() => this.kill(), graceMs);
    await this.ended;
    clearTimeout(cutOff);
  }

  kill(): void {
    this.#worker.process.kill("SIGKILL");
  }
}
