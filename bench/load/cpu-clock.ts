import { readdirSync, readFileSync } from "node:fs";

/** CPU time used so far, microseconds. */
export type CpuClock = () => number;

/** CPU time of all threads of the given processes: unlike throughput, it says little of who else was using the machine. */
export function cpuClock(...pids: readonly number[]): CpuClock {
  return () => {
    let nanoseconds = 0;
    for (const pid of pids) {
      for (const task of readdirSync(`/proc/${pid}/task`)) {
        nanoseconds += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ", 1)[0]);
      }
    }
    return nanoseconds / 1000;
  };
}
