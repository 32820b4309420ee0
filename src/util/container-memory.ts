import { totalmem } from "node:os";

/** The limit of this process's container (cgroup version 1 or 2), or the machine's memory, bytes. */
export function memoryOfContainer(): number {
  // 0 or 2^64: no limit.
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
