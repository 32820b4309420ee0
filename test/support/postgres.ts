import { inject } from "vitest";
import {
  connected,
  dropDatabase,
  freshName,
  giveDatabaseBack,
  takeDatabase,
  urlOf,
} from "./database-pool.ts";

/**
 * A separate database for the caller on the shared Postgres, without rows: migrated, or `empty`. After `close`, which ends open
 * connections, its URL is no longer valid.
 */
export async function createTestDatabase(
  options: { readonly empty?: boolean } = {},
): Promise<{ url: string; close: () => Promise<void> }> {
  const server = inject("postgresUrl");
  if (!options.empty) {
    const name = await takeDatabase(server);
    let given: Promise<void> | undefined;
    return {
      url: urlOf(server, name),
      close: () => {
        given ??= giveDatabaseBack(server, name);
        return given;
      },
    };
  }
  const name = freshName();
  await connected(server, (client) => client.query(`create database ${name} strategy wal_log`));
  return {
    url: urlOf(server, name),
    close: () =>
      connected(server, async (client) => {
        await dropDatabase(client, name);
      }),
  };
}
