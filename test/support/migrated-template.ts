import pg from "pg";
import { migrate } from "../../src/store/migrate.ts";

/** Database of the shared Postgres that has all migrations and no rows. Nobody stays connected to it: it is copied. */
export const migratedTemplate = "migrated";

/** Makes it, once per run. */
export async function makeMigratedTemplate(serverUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  try {
    await client.query(`create database ${migratedTemplate}`);
  } finally {
    await client.end();
  }
  const url = new URL(serverUrl);
  url.pathname = `/${migratedTemplate}`;
  await migrate({ url: url.href });
}
