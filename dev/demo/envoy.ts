import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { supervise } from "./supervise.ts";
import { answersOk, untilReady } from "./until-ready.ts";

/** A running Envoy. */
export interface Envoy {
  readonly pid: number;
  readonly logFile: string;
  readonly exited: Promise<unknown>;
  close(): Promise<void>;
}

/**
 * Starts Envoy with `bootstrap` (its text, JSON or YAML, as `envoy-config` prints it) in `folder` and waits
 * until its admin endpoint reports that it is ready. The bootstrap must have an admin address, `adminPort` on loopback.
 * @throws Error with the end of Envoy's log if it exits or is not ready within 60 s.
 */
export async function envoy(options: {
  bootstrap: string;
  folder: string;
  adminPort: number;
  logLevel?: "warning" | "info" | "debug" | "trace";
  /** Further options of Envoy. */
  args?: readonly string[];
}): Promise<Envoy> {
  const file = join(options.folder, "envoy.yaml");
  const logFile = join(options.folder, "envoy.log");
  // It contains the secret that authenticates Envoy.
  await writeFile(file, options.bootstrap, { mode: 0o600 });
  const level = options.logLevel ?? "warning";
  const args = ["-c", file, "--disable-hot-restart", "--concurrency", "2", "--log-level", level];
  const child = supervise(await envoyBinary(), [...args, ...(options.args ?? [])], {
    logFile,
    cwd: options.folder,
  });
  await untilReady(child, "Envoy", logFile, () => answersOk(`http://127.0.0.1:${options.adminPort}/ready`));
  return { pid: child.pid, logFile, exited: child.exited, close: () => child.stop() };
}
