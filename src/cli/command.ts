import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { type CurrentRoutes, createRouteTable } from "../config/route-table.ts";
import { buildStoredRoutes } from "../config/stored-routes.ts";
import { proxyEnvironment } from "../egress/proxies.ts";
import { createTrustedFetch } from "../egress/safe-fetch.ts";
import { loadKeyEncryptionKeys } from "../store/encryption/load-keys.ts";
import { openStore } from "../store/open-store.ts";
import type { Store } from "../store/store.ts";
import { createLogger, type Logger } from "../telemetry/logger.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";

/** Where a command runs, and where it writes. */
export interface CommandOptions {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** What a command of an operator needs of the context that serve. */
export interface CommandContext {
  readonly config: Config;
  readonly routes: CurrentRoutes;
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/**
 * Opens the database that the routes file names, runs `work` beside whatever serves, and closes it again.
 * @param options.operationTimeoutMs longest one operation on the database may take, ms (3000)
 * @returns the exit code of `work`; 1 when the routes file is wrong.
 * @throws StoreMisconfigured, StoreUnavailable
 */
export async function withStore(
  place: CommandOptions,
  work: (context: CommandContext) => Promise<number>,
  { operationTimeoutMs }: { readonly operationTimeoutMs?: number } = {},
): Promise<number> {
  const loaded = loadConfig(place.file, place.env);
  if (!loaded.ok) {
    for (const problem of loaded.problems) place.err(`${formatProblem(problem)}\n`);
    return 1;
  }
  const { config } = loaded;
  // What a command has to say stands on its output; the log is for what goes wrong beside it.
  const logger = createLogger({ level: "error" });
  const embeddedDir = config.database.url === undefined ? config.database.dir : undefined;
  const keys = await loadKeyEncryptionKeys(config.encryption.keys, {
    env: place.env,
    embeddedDir,
    fetch: createTrustedFetch({ limits: () => config.upstreamOAuth }),
    proxyEnv: proxyEnvironment(config.upstreamOAuth.proxies),
  });
  const store = await openStore({ ...config.database, keys, logger, operationTimeoutMs });
  try {
    const table = createRouteTable(buildStoredRoutes(config, await store.storedRoutes.list()).config);
    return await work({ config, routes: () => table, store, logger, metrics: createMetrics() });
  } finally {
    await store.close();
  }
}

/**
 * Rows under a head, in columns as wide as their widest cell.
 * @param rows cells in the order of `head`; dates are printed in ISO 8601
 */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly (string | Date | undefined)[])[],
): string {
  const texts = rows.map((row) =>
    row.map((cell) => (cell instanceof Date ? cell.toISOString() : (cell ?? "-"))),
  );
  const all = [head.map((name) => name.toUpperCase()), ...texts];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return `${all.map(line).join("\n")}\n`;
}
