import type { TestProject } from "vitest/node";
import { startPostgres } from "./start-postgres.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Superuser's URL of the one Postgres that all test files share; each makes a database of its own. */
    postgresUrl: string;
  }
}

/** One Postgres per run, started before the first test file and stopped after the last, whatever their outcome. */
export default async function postgresGlobalSetup(project: TestProject) {
  const server = await startPostgres();
  project.provide("postgresUrl", server.url);
  return () => server.close();
}
