import { type Sidecar, sidecar } from "../../../dev/demo/sidecar.ts";
import type { TcpProxy } from "../../support/tcp-proxy.ts";

/** One of the replicas: a process, its files and its two wires to the database. */
export interface Replica {
  readonly file: string;
  readonly admin: string;
  /** What it reads and writes by, and what it listens by. */
  readonly operations: TcpProxy;
  readonly listening: TcpProxy;
  process(): Sidecar;
  kill(): Promise<void>;
  terminate(): Promise<void>;
  /** @param env on top of the usual */
  start(env?: Readonly<Record<string, string>>): Promise<void>;
  close(): Promise<void>;
}

/** A replica that does not run yet. */
export function replica(
  place: Pick<Replica, "file" | "admin" | "operations" | "listening"> & {
    readonly logFile: string;
    readonly env: Readonly<Record<string, string>>;
  },
): Replica {
  let current: Sidecar | undefined;
  const running = () => {
    if (!current) throw new Error(`${place.file} is not served`);
    return current;
  };
  async function end(signal: NodeJS.Signals) {
    running().kill(signal);
    await running().exited;
    current = undefined;
  }
  return {
    ...place,
    process: running,
    kill: () => end("SIGKILL"),
    terminate: () => end("SIGTERM"),
    async start(more = {}) {
      const { file: configFile, logFile, env } = place;
      current = await sidecar({ configFile, logFile, env: { ...env, ...more } });
    },
    close: async () => current?.close(),
  };
}
