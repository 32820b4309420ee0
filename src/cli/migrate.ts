import { loadConfig } from "../config/load-config.ts";
import { formatProblem } from "../config/problems.ts";
import { migrate } from "../store/migrate.ts";
import type { IndexProgress } from "../store/postgres/build-indexes.ts";
import type { CommandOptions } from "./command.ts";
import { untilInterrupted } from "./interruption.ts";

/**
 * The command `migrate`: runs missing migrations, then builds indexes.
 * @param options.skipIndexes leaves indexes to `serve`
 * @returns the exit code; 1 if the routes file is invalid or the command was interrupted
 */
export async function runMigrate(
  options: CommandOptions & { readonly skipIndexes?: boolean },
): Promise<number> {
  const { out, err } = options;
  const loaded = loadConfig(options.file, options.env);
  if (!loaded.ok) {
    for (const problem of loaded.problems) err(`${formatProblem(problem)}\n`);
    return 1;
  }
  const { url, dir, listenUrl, ...tls } = loaded.config.database;
  let interrupted = false;
  await untilInterrupted((signal) =>
    migrate(url === undefined ? { dir } : { url, listenUrl, tls }, {
      ...{ skipIndexes: options.skipIndexes, signal },
      onMigrated: (names) =>
        out(names.length === 0 ? "the database is up to date\n" : `${names.join("\n")}\n`),
      onProgress: (progress) => err(`${formatProgress(progress)}\n`),
      onIndexes(outcome) {
        if (outcome === "elsewhere") out("another process is building the indexes\n");
        interrupted = outcome === "interrupted";
      },
    }),
  );
  if (!interrupted) return 0;
  err("interrupted; the database can be used, and serve or another migrate builds the missing indexes\n");
  return 1;
}

function formatProgress({ index, state, phase, percent, seconds }: IndexProgress): string {
  if (state === "started") return `building index ${index}; reads and writes go on`;
  if (state === "built") return `built index ${index} in ${seconds} s`;
  const share = percent === undefined ? "" : `, ${percent} %`;
  return `index ${index}: ${phase ?? "waiting"}${share} (${seconds} s)`;
}
