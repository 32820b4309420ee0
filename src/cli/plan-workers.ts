import { loadConfig } from "../config/load-config.ts";
import { InvalidConfig } from "../config/problems.ts";
import { countWorkers } from "../config/workers.ts";
import { createLogger } from "../telemetry/logger.ts";
import { longestRefreshMs } from "../upstream-oauth/refresh.ts";
import type { Plan } from "../workers/plan.ts";

/**
 * How many processes serve, and what their supervisor needs to know.
 * @throws InvalidConfig, or an Error if they cannot share the database
 */
export function planWorkers(
  options: {
    readonly config: string;
    readonly listenGrpc?: string;
    readonly listenHttp?: string;
    readonly listenAdmin?: string;
    readonly workers?: number | "auto";
  },
  env: NodeJS.ProcessEnv,
): Plan {
  const { listenGrpc: grpc, listenHttp: http } = options;
  const loaded = loadConfig(options.config, env, { listeners: { grpc, http }, workers: options.workers });
  if (!loaded.ok) throw new InvalidConfig(loaded.problems);
  const { workers: asked, database, listen, log } = loaded.config;
  const workers = countWorkers(asked);
  const adminSocket = /^unix:(.+)$/.exec(options.listenAdmin ?? listen.admin)?.[1];
  const plan = {
    ...{ adminSocket, socketMode: listen.socketMode, logLevel: log.level },
    refreshMs: longestRefreshMs(loaded.config.upstreamOAuth.timeoutMs),
  };
  if (workers === 1 || database.url !== undefined) return { workers, ...plan };
  if (asked !== "auto")
    throw new Error(
      `workers (--workers): ${workers} processes cannot share the embedded database; set database.url (DATABASE_URL) to a Postgres server, or set workers to 1`,
    );
  createLogger({ level: log.level }).info(
    "workers is auto, but only one process can use the embedded database: set database.url (DATABASE_URL) to use all cores",
  );
  return { workers: 1, ...plan };
}
