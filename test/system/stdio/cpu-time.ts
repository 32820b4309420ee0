import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** The processes of a call. */
export const parts = ["Envoy", "sidecar", "bridge", "server"] as const;
export type Part = (typeof parts)[number];

/** Ids of the processes that run in a folder or below it. */
export function processesIn(folder: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(folder);
      } catch {
        // Ended in the meantime.
        return false;
      }
    })
    .map(Number);
}

/** CPU time so far of the processes that run in a folder or below it, ms; by the kernel's clock of 100 ticks per second. */
export function cpuTimes(folder: string): Record<Part, number> {
  const times: Record<Part, number> = { Envoy: 0, sidecar: 0, bridge: 0, server: 0 };
  for (const pid of processesIn(folder)) {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ");
      const part = partOf(args);
      const [, , , , , , , , , , , user, system] =
        readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
      if (part !== undefined) times[part] += (Number(user) + Number(system)) * 10;
    } catch {
      // Ended in the meantime.
    }
  }
  return times;
}

function partOf(args: string): Part | undefined {
  if (args.includes("bootstrap.yaml")) return "Envoy";
  if (/src\/main\.m?[jt]s serve/.test(args)) return "sidecar";
  if (/python\S* bridge\.py/.test(args)) return "bridge";
  return args.includes("server-filesystem") ? "server" : undefined;
}
