import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { CpuClock } from "./cpu-clock.ts";
import { percentile } from "./percentile.ts";

/** One call of the thing measured; false: it failed, or its answer was not the right one. */
export type Call = (done: (ok: boolean, ms: number) => void) => void;

/** What one round of load came to. */
export interface Round {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly calls: number;
  readonly errors: number;
  /** CPU time of the measured process per call, microseconds, user and system. */
  readonly cpuMicros: number;
  /** Share of one core this load generator used. */
  readonly generatorCpu: number;
}

export interface LoadOptions {
  readonly call: Call;
  readonly ms: number;
  /** The measured process. */
  readonly cpu: CpuClock;
}

/** Keeps `concurrency` calls under way for `ms` milliseconds, then waits for those that still are. */
export function closedLoop(options: LoadOptions & { readonly concurrency: number }): Promise<Round> {
  return measured(options, (begin, stopped, under) => {
    const next = () => {
      if (!stopped()) begin(next);
    };
    for (let started = 0; started < options.concurrency; started++) next();
    return under;
  });
}

/**
 * Starts `perSecond` calls a second at even distances, whatever has become of the earlier ones: what people at their clients
 * do. A call counts from when it should have started, so that a stall shows in every call it held up.
 */
export async function openLoop(options: LoadOptions & { readonly perSecond: number }): Promise<Round> {
  const pacemaker = new Worker(new URL("./pacemaker.ts", import.meta.url), {
    workerData: { gapMs: 1000 / options.perSecond },
  });
  await once(pacemaker, "message");
  try {
    return await measured(options, (begin, stopped, under) => {
      pacemaker.on("message", (due: number) => {
        if (!stopped()) begin(() => {}, performance.timeOrigin + performance.now() - due);
      });
      return under;
    });
  } finally {
    await pacemaker.terminate();
  }
}

async function measured(
  { call, ms, cpu }: LoadOptions,
  drive: (
    begin: (after: () => void, late?: number) => void,
    stopped: () => boolean,
    idle: Promise<void>,
  ) => Promise<void>,
): Promise<Round> {
  const times: number[] = [];
  let errors = 0;
  let under = 0;
  let over = false;
  const { promise: idle, resolve } = Promise.withResolvers<void>();
  const begin = (after: () => void, late = 0) => {
    under++;
    call((ok, took) => {
      under--;
      if (ok) times.push(took + late);
      else errors++;
      if (over && under === 0) resolve();
      else after();
    });
  };
  const before = cpu();
  const ownBefore = process.cpuUsage();
  const startedAt = performance.now();
  setTimeout(() => {
    over = true;
    if (under === 0) resolve();
  }, ms);
  await drive(begin, () => over, idle);
  const seconds = (performance.now() - startedAt) / 1000;
  const own = process.cpuUsage(ownBefore);
  const calls = times.length + errors;
  return {
    perSecond: calls / seconds,
    p50: percentile(times, 0.5),
    p99: percentile(times, 0.99),
    calls,
    errors,
    cpuMicros: (cpu() - before) / calls,
    generatorCpu: (own.user + own.system) / 1e6 / seconds,
  };
}
