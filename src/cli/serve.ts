import cluster from "node:cluster";
import { readFileSync, rmSync } from "node:fs";
import { workerVariable } from "../workers/messages.ts";
import { answerPlan, type Plan, planning, readPlan } from "../workers/plan.ts";
import type { Worker } from "../workers/worker.ts";

/** The options of the command `serve`. */
export interface ServeArguments {
  readonly config: string;
  readonly xdsDir?: string;
  readonly listenGrpc?: string;
  readonly listenHttp?: string;
  readonly listenAdmin?: string;
  readonly listenXds?: string;
  readonly workers?: number | "auto";
}

interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  readonly err: (text: string) => void;
}

/**
 * The command `serve`: this process serves, alone or as one of several workers, or supervises them. Each loads only what it needs.
 * @throws UnusableSetting, InvalidConfig and other errors with a message for the operator
 */
export async function runServe(options: ServeArguments, { env, err }: Surroundings): Promise<void> {
  if (cluster.isWorker) {
    const { thisWorker } = await import("../workers/worker.ts");
    const worker = thisWorker(env);
    if (worker) return serveAsWorker(options, env, worker);
  }
  if (env[workerVariable] === planning) {
    const { planWorkers } = await import("./plan-workers.ts");
    return answerPlan(() => planWorkers(options, env));
  }
  // What restarts several workers must not end a single process: with `auto`, the machine decides which of the two it is.
  const ignoreHangUp = () =>
    err("SIGHUP has no effect on one process: restart it to apply what is read at startup\n");
  if (options.workers !== undefined || mentionsWorkers(options.config)) process.on("SIGHUP", ignoreHangUp);
  const plan = await askForPlan(options);
  if (plan !== undefined && plan.workers > 1) {
    process.off("SIGHUP", ignoreHangUp);
    return superviseWorkers(options, plan, err);
  }
  await serveAlone(options, { env, err });
}

async function open(
  options: ServeArguments,
  env: NodeJS.ProcessEnv,
  more: { workers?: number; worker?: Worker },
) {
  const { config: file, xdsDir, listenGrpc, listenHttp, listenAdmin, listenXds } = options;
  const listen = { grpc: listenGrpc, http: listenHttp, admin: listenAdmin, xds: listenXds };
  const { serve } = await import("../serve.ts");
  return serve({ file, env, xdsDir, listen, ...more });
}

async function serveAlone(options: ServeArguments, { env, err }: Surroundings): Promise<void> {
  const unspecified = options.workers === undefined && !mentionsWorkers(options.config);
  const sidecar = await open(options, env, unspecified ? {} : { workers: 1 });
  onStopSignals(
    () => sidecar.close(),
    () => process.exit(1),
    err,
  );
}

async function serveAsWorker(options: ServeArguments, env: NodeJS.ProcessEnv, worker: Worker): Promise<void> {
  // Ctrl-C and a closed terminal reach the whole process group: the supervisor decides.
  for (const signal of ["SIGINT", "SIGHUP"] as const) process.on(signal, () => undefined);
  let drain = (_replaced: boolean): void => process.exit(0);
  worker.onDrain((replaced) => drain(replaced));
  process.on("SIGTERM", () => drain(false));
  try {
    const sidecar = await open(options, env, { workers: worker.workers, worker });
    let draining = false;
    drain = (replaced) => {
      if (draining) return;
      draining = true;
      sidecar
        .close({ replaced })
        .finally(() => worker.finish())
        .then(
          () => process.exit(0),
          () => process.exit(1),
        );
    };
    worker.ready();
  } catch (error) {
    await worker.failed(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
}

/**
 * How many processes serve; undefined if neither the command line nor the file says so. Another process reads the file, because reading
 * needs more memory than supervising.
 * @throws Error with what is wrong with the file
 */
async function askForPlan({ config: file, workers }: ServeArguments): Promise<Plan | undefined> {
  if (workers === 1 || (workers === undefined && !mentionsWorkers(file))) return undefined;
  return readPlan();
}

/** Whether the file may set `workers`. */
function mentionsWorkers(file: string): boolean {
  try {
    return readFileSync(file, "utf8").includes("workers");
  } catch {
    // Reported when it is loaded.
    return false;
  }
}

async function superviseWorkers(
  options: ServeArguments,
  { workers, adminSocket, socketMode, refreshMs, logLevel }: Plan,
  err: Surroundings["err"],
): Promise<void> {
  let hangUp = (): void => undefined;
  process.on("SIGHUP", () => hangUp());
  const { Supervisor } = await import("../workers/supervisor.ts");
  const { createLogger } = await import("../telemetry/logger.ts");
  // Left by a process that was killed. This process binds it for all workers, so none of them may remove it.
  if (adminSocket !== undefined) rmSync(adminSocket, { force: true });
  const { supervisor, ready } = Supervisor.start({
    ...{ workers, socketMode, refreshMs, logger: createLogger({ level: logLevel }) },
    readWorkers: async () => (await askForPlan(options))?.workers ?? 1,
  });
  hangUp = () => void supervisor.roll();
  onStopSignals(
    () => supervisor.stop(),
    () => {
      supervisor.kill();
      process.exit(1);
    },
    err,
  );
  try {
    await ready;
    await supervisor.failed;
  } catch (error) {
    supervisor.kill();
    throw error;
  }
}

/** Stops on SIGTERM and SIGINT. A second signal exits immediately. */
function onStopSignals(stop: () => Promise<void>, exit: () => void, err: (text: string) => void): void {
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (stopping) return exit();
      stopping = true;
      stop().then(
        () => process.exit(0),
        (error: Error) => {
          err(`could not stop cleanly: ${error.message}\n`);
          process.exit(1);
        },
      );
    });
  }
}
