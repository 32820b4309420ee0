import { readdirSync, readFileSync } from "node:fs";

/** Resident memory of a process, MiB; NaN once it has ended. */
export function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(statusOf(String(pid)))?.[1] ?? Number.NaN) / 1024;
}

/** The most that a process has had so far, MiB; 0 once it has ended. */
export function mostResidentMiB(pid: number): number {
  return Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(statusOf(String(pid)))?.[1] ?? 0) / 1024);
}

/** A process and its descendants. */
export function processesOf(pid: number): readonly number[] {
  const children = readdirSync("/proc").filter(
    (name) => Number(/^PPid:\s+(\d+)/m.exec(statusOf(name))?.[1]) === pid,
  );
  return [pid, ...children.flatMap((child) => processesOf(Number(child)))];
}

/** Empty if it is not a process, or has ended. */
function statusOf(name: string): string {
  try {
    return /^\d+$/.test(name) ? readFileSync(`/proc/${name}/status`, "utf8") : "";
  } catch {
    return "";
  }
}
