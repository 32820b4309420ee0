import { availableParallelism } from "node:os";
import { memoryOfContainer } from "../util/container-memory.ts";
import type { Config } from "./config.ts";
import { isTcp } from "./listeners.ts";
import type { Reporter } from "./reporter.ts";

/** `workers:` of the routes file: a number of processes, or one for each core that this process may use. */
export type AskedWorkers = number | "auto";

/** At most this many: each has connections to the database. */
export const maxWorkers = 64;

/** What one worker needs of the container's memory; with less, it collects garbage most of the time, or is killed. */
const workerBytes = 256 * 2 ** 20;

/** The number of processes. `auto` respects the CPU affinity and the CPU limit (cgroup) of this process, and its memory. */
export function countWorkers(asked: AskedWorkers): number {
  if (asked !== "auto") return asked;
  return Math.max(1, Math.min(availableParallelism(), maxWorkers, workersThatFit()));
}

function workersThatFit(): number {
  return Math.floor(memoryOfContainer() / workerBytes);
}

/**
 * Where a worker serves what `listen` gives one address: the first at that address, the others at the ports that follow it, or at
 * `grpc.2.sock` for `unix:/run/grpc.sock`. Envoy sees each worker as a replica, so that it balances requests, not connections, and checks
 * the health of each.
 * @param worker from 1
 */
export function workerAddress(address: string, worker: number): string {
  if (worker === 1) return address;
  if (!isTcp(address)) return address.replace(/(\.[^./]+)?$/, `.${worker}$1`);
  const port = address.lastIndexOf(":") + 1;
  return address.slice(0, port) + (Number(address.slice(port) || 80) + worker - 1);
}

/** The addresses of all workers. */
export function workerAddresses(address: string, workers: number): readonly string[] {
  return Array.from({ length: workers }, (_, index) => workerAddress(address, index + 1));
}

/**
 * Reports addresses of workers that are also those of another listener, and workers that have no database to share.
 * @param override addresses of the command line
 */
export function checkWorkers(
  { listen, aggregation, database, ...config }: Config,
  override: { readonly grpc?: string; readonly http?: string },
  reporter: Reporter,
): void {
  const workers = countWorkers(config.workers);
  if (workers === 1) return;
  const taken = new Map<string, string>(
    (
      [
        ["listen.admin", listen.admin],
        ["listen.xds.address", listen.xds?.address],
        ["aggregation.listen", aggregation.through === undefined ? aggregation.listen : undefined],
      ] as const
    ).flatMap(([setting, address]) => (address === undefined ? [] : [[portOf(address), setting] as const])),
  );
  for (const key of ["grpc", "http"] as const) {
    for (const [index, address] of workerAddresses(override[key] ?? listen[key], workers).entries()) {
      const port = portOf(address);
      const other = taken.get(port);
      if (isTcp(address) && !(Number(port) <= 65_535))
        reporter.error(
          ["listen", key],
          `worker ${index + 1} of ${workers} would listen on ${address}, which is not a port`,
          "give it a lower port: each worker uses the next one",
        );
      else if (other !== undefined)
        reporter.error(
          ["listen", key],
          `worker ${index + 1} of ${workers} listens on ${address}, which is the port of ${other}`,
          `give one of them another port: each worker uses the next one after listen.${key}`,
        );
      taken.set(port, `listen.${key}`);
    }
  }
  if (workers > workersThatFit())
    reporter.warn(
      ["workers"],
      `${workers} workers need ${workers * (workerBytes / 2 ** 20)} MiB of memory, and there are ${Math.floor(memoryOfContainer() / 2 ** 20)} here`,
      "raise the memory limit where the program runs, or lower workers",
    );
  if (database.url === undefined)
    reporter.warn(
      ["workers"],
      "there is no database.url (DATABASE_URL): several processes cannot share the embedded database",
      "set DATABASE_URL where the program runs, or remove workers",
    );
}

/** Two listeners on one port but different addresses are reported as well: a wildcard address contains the others. */
function portOf(address: string): string {
  return isTcp(address) ? address.slice(address.lastIndexOf(":") + 1) : address;
}
