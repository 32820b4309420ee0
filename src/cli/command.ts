import { existsSync } from "node:fs";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { type CurrentRoutes, createRouteTable } from "../config/route-table.ts";
import { buildStoredRoutes, type StoredRoutesBuilt } from "../config/stored-routes.ts";
import { proxyEnvironment } from "../egress/proxies.ts";
import { createTrustedFetch } from "../egress/safe-fetch.ts";
import { loadKeyEncryptionKeys } from "../store/encryption/load-keys.ts";
import { openStore } from "../store/open-store.ts";
import type { Store } from "../store/store.ts";
import { createLogger, type Logger } from "../telemetry/logger.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";

/** The actor of the audit events that commands write. */
export const cliActor = "cli";

/** The inputs and outputs of a command. */
export interface CommandOptions {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** What an operator's command shares with a serving process. */
export interface CommandContext {
  /** With the routes of the database. */
  readonly config: Config;
  /** Those that are not in force, and why, by id. */
  readonly storedRoutes: StoredRoutesBuilt;
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Whether a database may exist: commands that only read must not create an embedded one. */
export function mayHaveDatabase({ database }: Pick<Config, "database">): boolean {
  return database.url !== undefined || existsSync(database.dir);
}

/**
 * Opens the database of the routes file, runs `work` and closes the database. Replicas may be serving in the meantime.
 * @param options.operationTimeoutMs timeout of a database operation, ms (3000)
 * @returns the exit code of `work`; 1 if the routes file is invalid.
 * @throws StoreMisconfigured, StoreUnavailable
 */
export async function withStore(
  command: CommandOptions,
  work: (context: CommandContext) => Promise<number>,
  { operationTimeoutMs }: { readonly operationTimeoutMs?: number } = {},
): Promise<number> {
  const loaded = loadConfig(command.file, command.env);
  if (!loaded.ok) {
    for (const problem of loaded.problems) command.err(`${formatProblem(problem)}\n`);
    return 1;
  }
  const { config } = loaded;
  // Commands report on their output; the log is only for errors.
  const logger = createLogger({ level: "error" });
  const embeddedDir = config.database.url === undefined ? config.database.dir : undefined;
  const keys = await loadKeyEncryptionKeys(config.encryption.keys, {
    env: command.env,
    embeddedDir,
    fetch: createTrustedFetch({ limits: () => config.upstreamOAuth }),
    proxyEnv: proxyEnvironment(config.upstreamOAuth.proxies),
  });
  const store = await openStore({ ...config.database, keys, logger, operationTimeoutMs });
  try {
    const { routes, ...unusable } = await store.storedRoutes.listAll();
    const storedRoutes = buildStoredRoutes(config, routes, unusable);
    const table = createRouteTable(storedRoutes.config);
    const shared = { routes: () => table, store, logger, metrics: createMetrics() };
    return await work({ config: storedRoutes.config, storedRoutes, ...shared });
  } finally {
    await store.close();
  }
}
