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
    execFileSync("taskset", ["-acp", "1", String(process.pid)], { stdio: "ignore" });
    return { measured: 0, rest: 1 };
  } catch {
    return none;
  }
}
