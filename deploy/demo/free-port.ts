import { type AddressInfo, createServer } from "node:net";
import { portError } from "./port-error.ts";

/**
 * `wanted` if it is free, else an error that names `setting`; without `wanted`, or with 0, any free port. For
 * ports that a file has to name before the process that listens there starts.
 */
export async function freePort(wanted = 0, setting?: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(portError(error, wanted, setting)));
    server.listen(wanted, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
