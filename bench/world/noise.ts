import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { percentile } from "../load/percentile.ts";

/*
 * How noisy the machine is during a run: what programs that do not belong to the run used of its cores, what the hypervisor gave
 * to other machines, and how much the time of one fixed calculation varies.
 */
export interface Noise {
  /** Shares of all cores, 0 to 1. */
  readonly otherPrograms: number;
  readonly stolen: number;
  /** Middle nine tenths of the calculation's times, relative to its median. */
  readonly speedSpread: number;
}

const quiet: Noise = { otherPrograms: 0.05, stolen: 0.01, speedSpread: 0.2 };
const block = Buffer.alloc(1 << 20, 7);
const times: number[] = [];

/** Times the fixed calculation once, some milliseconds; call it between rounds. */
export function sampleSpeed(): void {
  const startedAt = performance.now();
  createHash("sha256").update(block).digest();
  times.push(performance.now() - startedAt);
}

/** Begins to watch; the function that it returns gives the noise since then. */
export function watchNoise(): () => Noise {
  sampleSpeed();
  const before = { ...coreTimes(), own: ticksOf() };
  return () => {
    const after = { ...coreTimes(), own: ticksOf() };
    const all = after.all - before.all;
    const busy = after.busy - before.busy;
    const median = percentile(times, 0.5);
    return {
      otherPrograms: Math.max(0, (busy - (after.own - before.own)) / all),
      stolen: (after.stolen - before.stolen) / all,
      speedSpread: (percentile(times, 0.95) - percentile(times, 0.05)) / median,
    };
  };
}

/** One sentence for the report. */
export function describeNoise(noise: Noise): string {
  const { otherPrograms, stolen, speedSpread } = noise;
  const percent = (share: number) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
  const isQuiet = (Object.keys(quiet) as (keyof Noise)[]).every((key) => noise[key] <= quiet[key]);
  return `Noise: other programs used ${percent(otherPrograms)} of the cores, other virtual machines ${percent(stolen)}; the time of a fixed calculation varied by ${percent(speedSpread)}. ${
    isQuiet ? "The machine was quiet" : "**The machine was not quiet**"
  } (limits: ${percent(quiet.otherPrograms)}, ${percent(quiet.stolen)}, ${percent(quiet.speedSpread)}).`;
}

/** Times of all cores since boot, in ticks. */
function coreTimes(): { all: number; busy: number; stolen: number } {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n", 1);
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, soft = 0, stolen = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const busy = user + nice + system + irq + soft;
  return { all: busy + idle + waiting + stolen, busy, stolen };
}

/** CPU time of a process and all that it started, ended ones included, in ticks of 10 ms. */
export function ticksOf(root = process.pid): number {
  const processes = readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [statOf(name)] : []));
  const children = Map.groupBy(processes, (one) => one?.parent);
  const sum = (pid: number): number =>
    (children.get(pid) ?? []).reduce((total, child) => total + (child ? child.time + sum(child.pid) : 0), 0);
  return (statOf(String(root))?.time ?? 0) + sum(root);
}

/** Undefined: it has just ended. */
function statOf(pid: string): { pid: number; parent: number; time: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may contain blanks.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [own = 0, system = 0, ended = 0, endedSystem = 0] = fields.slice(11, 15).map(Number);
    return { pid: Number(pid), parent: Number(fields[1]), time: own + system + ended + endedSystem };
  } catch {
    return undefined;
  }
}
