import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { migratedTemplate } from "./migrated-template.ts";

/**
 * A database of the caller's own on the shared Postgres, without rows: migrated (a copy, which costs a tenth of migrating), or
 * `empty`. `close` drops it, open connections or not.
 */
export async function createTestDatabase(
  options: { readonly empty?: boolean } = {},
): Promise<{ url: string; close: () => Promise<void> }> {
  const adminUrl = inject("postgresUrl");
  const name = `test_${randomBytes(6).toString("hex")}`;
  const template = options.empty ? "template1" : migratedTemplate;
  await run(adminUrl, `create database ${name} template ${template} strategy file_copy`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  return { url: url.href, close: () => run(adminUrl, `drop database if exists ${name} with (force)`) };
}

async function run(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
