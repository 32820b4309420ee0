import { type Kysely, type Selectable, sql } from "kysely";
import {
  type AuditEvent,
  type RecordedAuditEvent,
  readAuditEventsById,
  writeAuditEvent,
} from "./audit-events.ts";
import { type AuditPartitions, auditPartitions } from "./audit-partitions.ts";
import type { Database } from "./database.ts";
import type { Tables } from "./tables.ts";

/** Some events of the trail, chained to those before them. All were written on the same UTC day, so that they expire together. */
export interface AuditBatch {
  readonly number: number;
  /** In the order of the chain. */
  readonly ids: readonly number[];
  /** SHA-256 of each event, 32 bytes each, in the same order. */
  readonly hashes: Uint8Array;
  /** Hash of the batch before. */
  readonly previous: string;
  readonly hash: string;
  /** A compact JWS over the others. */
  readonly checkpoint: string;
  /** When the earliest and the latest of its events were written; of a batch without events, when it was made. */
  readonly firstAt: Date;
  readonly lastAt: Date;
}

/** Id and time of an event. */
export interface EventTime {
  readonly id: number;
  readonly at: Date;
}

/** The chain of batches beside the events, and how far exports have got with it. */
export interface AuditTrail {
  readonly partitions: AuditPartitions;
  /** The database's time. */
  now(): Promise<Date>;
  /** The events written since `since`, oldest first, in pages: there may be millions, and any number with the same time. */
  pagesSince(since: Date): AsyncGenerator<readonly EventTime[]>;
  /** @param span contains the times of all these events */
  events(
    ids: readonly number[],
    span: { readonly from: Date; readonly to: Date },
  ): Promise<RecordedAuditEvent[]>;
  /** The next events by id. */
  eventTimes(afterId: number, limit: number): Promise<EventTime[]>;
  latest(): Promise<AuditBatch | undefined>;
  /** In the order of their numbers. */
  batches(after: number, limit: number): Promise<AuditBatch[]>;
  /** Those of the events with these ids that a batch has. */
  chained(ids: readonly number[]): Promise<ReadonlySet<number>>;
  /**
   * Appends a batch, with an event about it.
   * @returns false: another process has appended one with this number
   */
  append(batch: AuditBatch, audit?: AuditEvent): Promise<boolean>;
  /** Removes batches from before `number`. @returns how many */
  removeBatches(number: number): Promise<number>;
  /** The number of the first batch with events from `at` on. */
  firstBatchSince(at: Date): Promise<number | undefined>;
  /** The last batch that `destination` has accepted. */
  exported(destination: string): Promise<Pick<AuditBatch, "number" | "hash"> | undefined>;
  /** Moves the position of `destination`. A process that was overtaken must not move it back. */
  saveExported(
    destination: string,
    before: number | undefined,
    batch: Pick<AuditBatch, "number" | "hash">,
  ): Promise<void>;
}

/** Events that one statement reads. */
const pageSize = 10_000;
/** Batches that one statement removes. */
const removedAtOnce = 1_000;

export function auditTrail(database: Database): AuditTrail {
  const table = "audit_batch";
  return {
    partitions: auditPartitions(database),
    now: () => database.read("audit_batch.now", timeOf),
    pagesSince: (since) => pagesSince(database, since),
    events: (ids, { from, to }) => readAuditEventsById(database, ids, { from, to }),
    eventTimes: (afterId, limit) =>
      database.read("audit_event.times", (db) =>
        db
          .selectFrom("audit_event")
          .select(["id", "at"])
          .where("id", ">", afterId)
          .orderBy("id")
          .limit(limit)
          .execute(),
      ),
    async latest() {
      const row = await database.read("audit_batch.latest", (db) =>
        db.selectFrom(table).selectAll().orderBy("number", "desc").limit(1).executeTakeFirst(),
      );
      return row && batchOf(row);
    },
    async batches(after, limit) {
      const rows = await database.read("audit_batch.list", (db) =>
        db.selectFrom(table).selectAll().where("number", ">", after).orderBy("number").limit(limit).execute(),
      );
      return rows.map(batchOf);
    },
    async chained(ids) {
      const wanted = new Set(ids);
      if (wanted.size === 0) return wanted;
      const rows = await database.read("audit_batch.of_ids", (db) =>
        db
          .selectFrom(table)
          .select("ids")
          .where(
            sql<boolean>`int8range(first_id, last_id, '[]') && int8range(${least(ids)}, ${greatest(ids)}, '[]')`,
          )
          .execute(),
      );
      return new Set(rows.flatMap((row) => row.ids.filter((id) => wanted.has(id))));
    },
    append: (batch, audit) =>
      database.write("audit_batch.append", async (tx) => {
        const appended = await tx
          .insertInto(table)
          .values({
            number: batch.number,
            first_id: batch.ids.length === 0 ? 0 : least(batch.ids),
            last_id: batch.ids.length === 0 ? 0 : greatest(batch.ids),
            first_at: batch.firstAt,
            last_at: batch.lastAt,
            ids: JSON.stringify(batch.ids),
            hashes: batch.hashes,
            previous: batch.previous,
            hash: batch.hash,
            checkpoint: batch.checkpoint,
          })
          .onConflict((c) => c.column("number").doNothing())
          .returning("number")
          .execute();
        if (appended.length === 0) return false;
        if (audit) await writeAuditEvent(tx, audit);
        return true;
      }),
    async removeBatches(number) {
      for (let removed = 0; ; ) {
        const rows = await database.write("audit_batch.remove", (tx) =>
          tx
            .deleteFrom(table)
            .where("number", "in", (e) =>
              e
                .selectFrom(table)
                .select("number")
                .where("number", "<", number)
                .orderBy("number")
                .limit(removedAtOnce),
            )
            .returning("number")
            .execute(),
        );
        removed += rows.length;
        if (rows.length < removedAtOnce) return removed;
      }
    },
    async firstBatchSince(at) {
      const rows = await database.read("audit_batch.first_since", (db) =>
        db
          .selectFrom(table)
          .select("number")
          .where("last_at", ">=", at)
          .orderBy("last_at")
          // Events that are committed late are in a later batch than younger ones.
          .limit(100)
          .execute(),
      );
      return rows.length === 0 ? undefined : Math.min(...rows.map(({ number }) => number));
    },
    async exported(destination) {
      const row = await database.read("audit_export.find", (db) =>
        db
          .selectFrom("audit_export")
          .select(["batch", "hash"])
          .where("destination", "=", destination)
          .executeTakeFirst(),
      );
      return row && { number: row.batch, hash: row.hash };
    },
    async saveExported(destination, before, { number, hash }) {
      const row = { destination, batch: number, hash };
      await database.writeAtOnce("audit_export.save", async (db) => {
        if (before === undefined)
          await db
            .insertInto("audit_export")
            .values(row)
            .onConflict((c) => c.doNothing())
            .execute();
        else
          await db
            .updateTable("audit_export")
            .set({ ...row, updated_at: new Date() })
            .where("destination", "=", destination)
            .where("batch", "=", before)
            .execute();
      });
    },
  };
}

// Not as arguments of one call: there may be too many.
const least = (ids: readonly number[]) => ids.reduce((least, id) => Math.min(least, id));
const greatest = (ids: readonly number[]) => ids.reduce((greatest, id) => Math.max(greatest, id));

async function* pagesSince(database: Database, since: Date): AsyncGenerator<readonly EventTime[]> {
  // As text, because dates have milliseconds here and microseconds there.
  let from = since.toISOString();
  let after = Number.MIN_SAFE_INTEGER;
  for (;;) {
    const page = await database.read("audit_event.since", (db) =>
      db
        .selectFrom("audit_event")
        .select(["id", "at", sql<string>`at::text`.as("exactly")])
        .where(sql<boolean>`at >= ${from}::timestamptz and (at > ${from}::timestamptz or id > ${after})`)
        .orderBy("at")
        .orderBy("id")
        .limit(pageSize)
        .execute(),
    );
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    if (page.length < pageSize) return;
    [from, after] = [last.exactly, last.id];
  }
}

async function timeOf(db: Kysely<Tables>): Promise<Date> {
  const { now } = await db.selectNoFrom(sql<Date>`clock_timestamp()`.as("now")).executeTakeFirstOrThrow();
  return now;
}

const batchOf = (row: Selectable<Tables["audit_batch"]>): AuditBatch => ({
  number: row.number,
  ids: row.ids,
  hashes: row.hashes,
  previous: row.previous,
  hash: row.hash,
  checkpoint: row.checkpoint,
  firstAt: row.first_at,
  lastAt: row.last_at,
});
