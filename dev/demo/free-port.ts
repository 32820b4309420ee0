import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { portError } from "./port-error.ts";

/**
 * Below the ephemeral ports, which outbound connections could take between this check and the port's use. Each test worker (Vitest
 * numbers them from 1) has its own range.
 */
const share = 5_000;
const first = 10_000 + share * (Number(process.env.VITEST_POOL_ID ?? 0) % 4);
const last = first + share - 1;
let next = randomInt(first, last);

/**
 * `wanted` if it is free, else an error that names `setting`; without `wanted`, or with 0, any free port. For
 * ports that a file must name before the listening process starts.
 */
export async function freePort(wanted = 0, setting?: string): Promise<number> {
  if (wanted !== 0) {
    const error = await tryPort(wanted);
    if (error) throw portError(error, wanted, setting);
    return wanted;
  }
  for (let tries = 0; tries < last - first; tries += 1) {
    const port = next;
    next = next < last ? next + 1 : first;
    if (!(await tryPort(port))) return port;
  }
  throw new Error(`no port is free between ${first} and ${last}`);
}

/** Why the port cannot be used; undefined: it can. */
async function tryPort(port: number): Promise<Error | undefined> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", resolve);
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(undefined)));
  });
}
