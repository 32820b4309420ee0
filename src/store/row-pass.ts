import { randomUUID } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { Database } from "./database.ts";
import type { Tables } from "./tables.ts";

/** How far a pass has come: rows of this table up to this primary key, and all rows of the tables before it. */
export interface Position {
  readonly table: string;
  readonly after?: readonly string[];
  /** Number of rows of this table up to there. */
  readonly rows: number;
}

/**
 * A pass over all rows that grows with users, by one process at a time: an interrupted one is continued. The position only saves work:
 * whether everything is done is checked at the end.
 */
export interface RowPass {
  /** What the unfinished pass brings rows to, and how far it is. */
  readonly target?: string;
  readonly position?: Position;
  /** Begins from the start, with another target. */
  restart(target: string): Promise<void>;
  /** Stores the position and extends the lease. In the transaction that changes the rows, if any. @throws RowPassLost */
  save(db: Kysely<Tables>, position: Position): Promise<void>;
  /** In the transaction that ends the pass. @throws RowPassLost */
  finish(db: Kysely<Tables>): Promise<void>;
  /** Lets another process continue at once. */
  release(): Promise<void>;
}

/** Another process has taken over: this one was silent for longer than its lease. */
export class RowPassLost extends Error {
  constructor(kind: string) {
    super(`another process has taken over (${kind})`);
    this.name = "RowPassLost";
  }
}

/** Longer than a batch takes while a key service is slow; a killed process blocks others for this long. */
const lease = sql`now() + interval '2 minutes'`;

/** Undefined: another process is running it. */
export async function takeRowPass(
  database: Database,
  kind: "rotate_keys" | "bind_rows",
): Promise<RowPass | undefined> {
  const owner = randomUUID();
  const { rows } = await database.write("row_pass.take", (tx) =>
    sql<{ target: string | null; position: Position | null }>`
      insert into row_pass as pass (kind, owner, lease_until) values (${kind}, ${owner}, ${lease})
      on conflict (kind) do update set owner = excluded.owner, lease_until = excluded.lease_until
      where pass.lease_until is null or pass.lease_until < now() or pass.lease_until > now() + interval '4 minutes'
      returning target, position`.execute(tx),
  );
  const [found] = rows;
  if (!found) return undefined;
  const own = sql`kind = ${kind} and owner = ${owner}`;
  const held = ({ rows }: { rows: readonly unknown[] }) => {
    if (rows.length === 0) throw new RowPassLost(kind);
  };
  return {
    ...(found.target !== null && { target: found.target }),
    ...(found.position !== null && { position: found.position }),
    async restart(target) {
      await database.write("row_pass.restart", async (tx) =>
        held(
          await sql`
            update row_pass set target = ${target}, position = null, lease_until = ${lease}
            where ${own} returning 1`.execute(tx),
        ),
      );
    },
    async save(db, position) {
      held(
        await sql`
          update row_pass set position = ${JSON.stringify(position)}::jsonb, lease_until = ${lease}
          where ${own} returning 1`.execute(db),
      );
    },
    async finish(db) {
      held(await sql`delete from row_pass where ${own} returning 1`.execute(db));
    },
    async release() {
      await database.write("row_pass.release", (tx) =>
        sql`update row_pass set owner = null, lease_until = null where ${own}`.execute(tx),
      );
    },
  };
}
