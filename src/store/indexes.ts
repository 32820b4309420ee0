import { type Kysely, sql } from "kysely";
import type { Tables } from "./tables.ts";

/** Indexes that migrations export beside `up`: the name, and what follows it in `create index`. */
export type IndexDefinitions = Readonly<Record<string, string>>;

/** Indexes of tables that grow with users. They are built online, after the migration, so they may be missing for hours. */
export interface Indexes {
  /** Whether an index can be used; background work that would scan its table without it waits. A query until it can. */
  built(name: string): Promise<boolean>;
  /** Names of the indexes that cannot be used yet. */
  pending(): Promise<string[]>;
  /** Builds pending indexes until none is left or the store closes, one process at a time. Failures are logged and tried again. */
  buildInBackground(): void;
}

export interface PendingIndex {
  readonly name: string;
  readonly definition: string;
  /** An interrupted build has left it behind, or it is being built. */
  readonly invalid: boolean;
}

/** The indexes among `wanted` that do not exist or are not valid. */
export async function pendingIndexes(db: Kysely<Tables>, wanted: IndexDefinitions): Promise<PendingIndex[]> {
  const names = Object.keys(wanted);
  if (names.length === 0) return [];
  const { rows } = await sql<{ name: string; usable: boolean }>`
    select relname as name, indisvalid and indisready as usable
    from pg_index join pg_class on pg_class.oid = indexrelid
    where relname in (${sql.join(names)}) and pg_table_is_visible(indexrelid)`.execute(db);
  const found = new Map(rows.map(({ name, usable }) => [name, usable]));
  return Object.entries(wanted)
    .filter(([name]) => !found.get(name))
    .map(([name, definition]) => ({ name, definition, invalid: found.has(name) }));
}

/** Creates missing indexes at once, while nothing else uses the database (the embedded one). */
export async function createIndexes(db: Kysely<Tables>, wanted: IndexDefinitions): Promise<void> {
  for (const { name, definition } of await pendingIndexes(db, wanted))
    await sql`create index if not exists ${sql.ref(name)} ${sql.raw(definition)}`.execute(db);
}

/** Answers from `pending`; an index that has been built stays built. */
export function knownIndexes(
  pending: () => Promise<readonly PendingIndex[]>,
): Omit<Indexes, "buildInBackground"> {
  let left: ReadonlySet<string> | undefined;
  async function look(): Promise<string[]> {
    if (left?.size === 0) return [];
    const names = (await pending()).map(({ name }) => name);
    left = new Set(names);
    return names;
  }
  return {
    pending: look,
    async built(name) {
      if (left === undefined || left.has(name)) await look();
      return !left?.has(name);
    },
  };
}
