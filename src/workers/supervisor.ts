import cluster from "node:cluster";
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../telemetry/logger.ts";
import { counted } from "../util/counted.ts";
import { Gathering } from "./gathering.ts";
import type { Report } from "./messages.ts";
import { WorkerProcess } from "./worker-process.ts";

/** How often a worker may end before it serves, until the supervisor gives up. */
const maxTries = 5;
const backoffMs = { first: 250, most: 30_000 };
/** A worker that has served this long is not part of a crash loop, ms. */
const settledMs = 60_000;
/** How long Envoy takes to find out that a replaced worker is healthy, ms: several of its health checks. */
const noticeMs = 3_000;
/** How long a replacement may take to start, ms. */
const startMs = 5 * 60_000;
/** A draining worker closes what is left after this; then it waits for refreshes under way, and stores their tokens, ms. */
const closingMs = 15_000;
const storingMs = 10_000;

export interface SupervisorOptions {
  readonly workers: number;
  /** How many there are from the next rolling restart on. @throws if the configuration has become invalid */
  readonly readWorkers: () => Promise<number>;
  /** Permissions of Unix sockets, which this process binds for its workers. */
  readonly socketMode: number;
  /** The longest refresh of an upstream token, ms: the token would be lost with the process. */
  readonly refreshMs: number;
  readonly logger: Logger;
}

/**
 * Starts the workers and keeps them running. Each serves addresses of its own, and all of them the private port. This process binds the
 * sockets for them (`node:cluster`, without distributing connections), so that a worker and its replacement accept from the same queue,
 * and no connection is lost between them.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  /** The process that serves each place. */
  readonly #current = new Map<number, WorkerProcess>();
  readonly #all = new Set<WorkerProcess>();
  readonly #tries = new Map<number, number>();
  readonly #gathering = new Gathering(() => this.#all);
  readonly #umask: number;
  /** One that does not exit is killed, ms. */
  readonly #drainMs: number;
  #workers: number;
  #started: Promise<void> = Promise.resolve();
  #stopping = false;
  #rolling: Promise<void> | undefined;
  #rollAgain = false;
  #giveUp: (error: Error) => void = () => undefined;
  /** Rejects when no worker is left and none can be started. */
  readonly failed: Promise<never>;

  private constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#workers = options.workers;
    this.#drainMs = closingMs + options.refreshMs + storingMs;
    this.#umask = process.umask(0o777 & ~options.socketMode);
    this.failed = new Promise((_, reject) => {
      this.#giveUp = reject;
    });
    this.failed.catch(() => undefined);
    cluster.schedulingPolicy = cluster.SCHED_NONE;
  }

  /** The first worker migrates the database; the others start when it serves. Resolves to a supervisor at once. */
  static start(options: SupervisorOptions): {
    readonly supervisor: Supervisor;
    readonly ready: Promise<void>;
  } {
    const supervisor = new Supervisor(options);
    supervisor.#started = supervisor.#startAll();
    return { supervisor, ready: supervisor.#started };
  }

  /** @throws Error with the reason of the first worker that cannot be started */
  async #startAll(): Promise<void> {
    const { logger } = this.#options;
    await this.#startFirst(1);
    const others = Array.from({ length: this.#workers - 1 }, (_, index) => index + 2);
    await Promise.all(others.map((number) => this.#startFirst(number)));
    if (!this.#stopping) logger.info({ workers: this.#workers }, "all workers are ready");
  }

  async #startFirst(number: number): Promise<void> {
    for (let tries = 1; !this.#stopping; tries++) {
      const started = this.#fork(number);
      this.#current.set(number, started);
      if (await started.ready) {
        this.#watch(started);
        return;
      }
      if (this.#stopping) return;
      const { reason, failed } = await started.ended;
      if (failed) throw new Error(reason);
      if (tries === maxTries)
        throw new Error(
          `worker ${number} ended ${tries} times before it was ready: ${reason}; its log lines may say why`,
        );
      this.#options.logger.error({ worker: number, reason }, "a worker ended before it was ready");
      await delay(Math.min(backoffMs.most, backoffMs.first * 2 ** (tries - 1)));
    }
  }

  #fork(number: number): WorkerProcess {
    // Also one that drains, or that has not been noticed to be gone: this process still holds its sockets.
    const replaces = [...this.#all].some((other) => other.number === number && other.state !== "ended");
    const place = { number, workers: this.#workers, replaces };
    const started = new WorkerProcess(place, this.#umask, (report, from) => this.#onReport(report, from));
    this.#all.add(started);
    void started.ready.then((ready) => {
      if (ready) this.#options.logger.info({ worker: number, pid: started.pid }, "a worker is ready");
    });
    void started.ended.then(() => {
      this.#all.delete(started);
      this.#gathering.retire(started);
    });
    return started;
  }

  #onReport(report: Report, from: WorkerProcess): void {
    if (report.kind === "gather") void this.#gathering.answer(from, report.request);
    else if (report.kind === "snapshot") this.#gathering.answered(report);
    else if (report.kind === "taken")
      for (const other of this.#all) if (other !== from) other.send({ kind: "taken", taken: report.taken });
  }

  /** Replaces a worker that ends by itself. */
  #watch(worker: WorkerProcess): void {
    void worker.ended.then(async ({ reason }) => {
      const { number } = worker;
      if (this.#stopping || this.#current.get(number) !== worker) return;
      const tries = performance.now() - worker.startedAt > settledMs ? 0 : (this.#tries.get(number) ?? 0);
      this.#tries.set(number, tries + 1);
      this.#options.logger.error({ worker: number, reason }, "a worker ended; another one is started");
      if (tries >= maxTries && ![...this.#all].some(({ state }) => state === "ready")) {
        this.#giveUp(
          new Error(
            `no worker is left: worker ${number} ended ${counted(tries + 1, "time")}, the last time: ${reason}`,
          ),
        );
        return;
      }
      if (tries > 0) await delay(Math.min(backoffMs.most, backoffMs.first * 2 ** (tries - 1)));
      // In the meantime, a rolling restart may have started one, or removed its place.
      if (this.#stopping || this.#current.get(number) !== worker) return;
      const next = this.#fork(number);
      this.#current.set(number, next);
      this.#gathering.restarted("ended");
      this.#watch(next);
    });
  }

  /** Replaces all workers, one after the other, each when its replacement serves. */
  roll(): Promise<void> {
    if (this.#rolling) {
      this.#rollAgain = true;
      return this.#rolling;
    }
    this.#rolling = this.#rollOnce().finally(() => {
      this.#rolling = undefined;
      if (!this.#rollAgain || this.#stopping) return;
      this.#rollAgain = false;
      void this.roll();
    });
    return this.#rolling;
  }

  async #rollOnce(): Promise<void> {
    const { logger, readWorkers } = this.#options;
    try {
      await this.#started;
    } catch {
      // The command ends with the reason.
      return;
    }
    try {
      this.#workers = await readWorkers();
    } catch (error) {
      logger.error(
        { reason: error instanceof Error ? error.message : String(error) },
        "no rolling restart: the configuration is invalid",
      );
      return;
    }
    logger.info({ workers: this.#workers }, "rolling restart");
    for (let number = 1; number <= this.#workers && !this.#stopping; number++) {
      const replaced = this.#current.get(number);
      const next = this.#fork(number);
      // From now on: if the old one ends in the meantime, this is the one that is started again.
      this.#current.set(number, next);
      // One that hangs would prevent every later restart.
      const late = setTimeout(() => next.kill(), startMs);
      const isReady = await next.ready;
      clearTimeout(late);
      if (!isReady) {
        if (this.#stopping) return;
        const { reason } = await next.ended;
        if (replaced !== undefined && replaced.state !== "ended") this.#current.set(number, replaced);
        else if (replaced !== undefined) this.#watch(next);
        else this.#current.delete(number);
        logger.error(
          { worker: number, reason },
          "the rolling restart was stopped: a new worker cannot start",
        );
        return;
      }
      this.#gathering.restarted("rolling_restart");
      this.#watch(next);
      if (replaced && replaced.state !== "ended") {
        await replaced.drain(true, this.#drainMs);
        await delay(noticeMs);
      }
    }
    const removed = [...this.#current].filter(([number]) => number > this.#workers);
    for (const [number, worker] of removed) {
      this.#current.delete(number);
      await worker.drain(true, this.#drainMs);
    }
    if (!this.#stopping) logger.info({ workers: this.#workers }, "rolling restart finished");
  }

  /** Has all workers finish their calls and exit. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#all].map((worker) => worker.drain(false, this.#drainMs)));
  }

  /** Ends all workers at once. */
  kill(): void {
    this.#stopping = true;
    for (const worker of this.#all) worker.kill();
  }
}
