import { type Sidecar, sidecar } from "../../../dev/demo/sidecar.ts";
import type { TcpProxy } from "../../support/tcp-proxy.ts";

/** A replica: a process, its files and its two connections to the database. */
export interface Replica {
  readonly file: string;
  readonly admin: string;
  /** The connections for operations and for the listener. */
  readonly operations: TcpProxy;
  readonly listening: TcpProxy;
  process(): Sidecar;
  kill(): Promise<void>;
  terminate(): Promise<void>;
  /** @param env additional environment variables */
  start(env?: Readonly<Record<string, string>>): Promise<void>;
  close(): Promise<void>;
}

/** A replica that has not been started. */
export function replica(
  settings: Pick<Replica, "file" | "admin" | "operations" | "listening"> & {
    readonly logFile: string;
    readonly env: Readonly<Record<string, string>>;
  },
): Replica {
  let current: Sidecar | undefined;
  const running = () => {
    if (!current) throw new Error(`${settings.file} is not served`);
    return current;
  };
  async function end(signal: NodeJS.Signals) {
    running().kill(signal);
    await running().exited;
    current = undefined;
  }
  return {
    ...settings,
    process: running,
    kill: () => end("SIGKILL"),
    terminate: () => end("SIGTERM"),
    async start(more = {}) {
      const { file: configFile, logFile, env } = settings;
      current = await sidecar({ configFile, logFile, env: { ...env, ...more } });
    },
    close: async () => current?.close(),
  };
}
