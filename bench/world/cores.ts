import { execFileSync } from "node:child_process";
import { availableParallelism } from "node:os";

/** Which core what runs on: what is measured has one of its own, all else shares the other. */
export interface Cores {
  readonly measured: number | undefined;
  readonly rest: number | undefined;
}

/** Pins this process (the load generator) and says where the others go; nowhere in particular without `taskset` or a second core. */
export function pinnedCores(): Cores {
  const none = { measured: undefined, rest: undefined };
  if (availableParallelism() < 2) return none;
  try {
    pin(process.pid, "1");
    return { measured: 0, rest: 1 };
  } catch {
    return none;
  }
}

/**
 * Lets this process, and what it starts without a core of its own, use every core, as where nobody pins anything. Returns the
 * way back.
 */
export function everyCore({ measured, rest }: Cores): () => void {
  if (measured === undefined || rest === undefined) return () => {};
  pin(process.pid, `${measured},${rest}`);
  return () => pin(process.pid, String(rest));
}

/** @param cores as `taskset` takes them: `0`, `0,1` */
export function pin(pid: number, cores: string): void {
  execFileSync("taskset", ["-acp", cores, String(pid)], { stdio: "ignore" });
}
