import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { type KeyEncryptionKeys, localKeyEncryptionKeys } from "../../src/store/encryption/encryption.ts";
import { openStore, type StoreOptions } from "../../src/store/open-store.ts";
import type { Store } from "../../src/store/store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createEmbeddedTestDatabase } from "../support/embedded-database.ts";
import { createTestDatabase } from "../support/postgres.ts";

/** An empty database and access to it. */
export interface Backend {
  open(options?: Partial<StoreOptions>): Promise<Store>;
  /** Runs one statement outside the store; with the embedded database the store must be closed. */
  query(statement: string): Promise<Record<string, unknown>[]>;
  close(): Promise<void>;
}

export const logger = createLogger({ level: "silent" });

export const makeKeys = (...kids: string[]): Promise<KeyEncryptionKeys> =>
  localKeyEncryptionKeys(kids.map((kid) => ({ kid, bytes: keyBytes(kid) })));

const bytes = new Map<string, Buffer>();
function keyBytes(kid: string): Buffer {
  const known = bytes.get(kid) ?? randomBytes(32);
  bytes.set(kid, known);
  return known;
}

async function postgres(options?: { empty?: boolean }): Promise<Backend & { url: string }> {
  const { url, close } = await createTestDatabase(options);
  return {
    url,
    open: async (options) =>
      openStore({ url, dir: "/nonexistent", keys: await makeKeys("k1"), logger, ...options }),
    async query(statement) {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      try {
        return (await client.query(statement)).rows;
      } finally {
        await client.end();
      }
    },
    close,
  };
}

async function embedded(): Promise<Backend> {
  const { dir, close } = await createEmbeddedTestDatabase();
  return {
    open: async (options) => openStore({ dir, keys: await makeKeys("k1"), logger, ...options }),
    async query(statement) {
      const pglite = await PGlite.create({ dataDir: join(dir, "database") });
      try {
        return (await pglite.query<Record<string, unknown>>(statement)).rows;
      } finally {
        await pglite.close();
      }
    },
    close,
  };
}

/** Both databases, for suites that apply to either. */
export const backends = { postgres, embedded };
