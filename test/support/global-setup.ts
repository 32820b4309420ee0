import type { TestProject } from "vitest/node";
import { chromiumBinary } from "../../dev/demo/browser.ts";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { bundleProgram } from "./bundle-program.ts";
import { startDatabasePool } from "./database-pool.ts";
import { type PostgresServer, startPostgres } from "./start-postgres.ts";
import { collectTemporaryFiles } from "./temporary-files.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Superuser's URL of the Postgres that all test files share; each creates its own database. */
    postgresUrl: string;
  }
}

/**
 * One Postgres per run, started before the first test file and stopped after the last, whatever their outcome; the run's temporary files
 * are removed then. Required programs are installed before any test's timeout starts; if that fails, the tests that need them report it.
 */
export default async function globalSetup(project: TestProject) {
  await Promise.allSettled([envoyBinary(), chromiumBinary()]);
  // For dev/demo/sidecar.ts in the workers, and in the demo that they start.
  process.env.BUNDLED_PROGRAM = await bundleProgram();
  const temporaryFiles = await collectTemporaryFiles();
  let server: PostgresServer | undefined;
  const close = async () => {
    await server?.close();
    await temporaryFiles.remove();
  };
  try {
    server = await startPostgres();
    await startDatabasePool(server.url);
  } catch (error) {
    await close();
    throw error;
  }
  project.provide("postgresUrl", server.url);
  return close;
}
