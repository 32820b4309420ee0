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
  /** The events written since `since` that this transaction sees, and the database's time before it looked. */
  writtenSince(since: Date): Promise<{ readonly now: Date; readonly events: readonly EventTime[] }>;
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
  /** Those with events that were written at or after this time. */
  batchesSince(at: Date): Promise<AuditBatch[]>;
  /** Those whose ids reach into this range. */
  batchesOfIds(first: number, last: number): Promise<AuditBatch[]>;
  /**
   * Appends a batch, with an event about it.
   * @returns false: another process has appended one with this number
   */
  append(batch: AuditBatch, audit?: AuditEvent): Promise<boolean>;
  /** Removes batches from before `number`. @returns how many */
  removeBatches(number: number): Promise<number>;
  /** The number of the first batch with events from `at` on. */
  firstBatchSince(at: Date): Promise<number | undefined>;
  /** The number of the last batch that was exported to `destination`. */
  exported(destination: string): Promise<number | undefined>;
  saveExported(destination: string, batch: number): Promise<void>;
}

/** Batches that one statement removes. */
const removedAtOnce = 1_000;

export function auditTrail(database: Database): AuditTrail {
  const table = "audit_batch";
  return {
    partitions: auditPartitions(database),
    now: () => database.read("audit_batch.now", timeOf),
    writtenSince: (since) =>
      database.read("audit_event.written_since", async (db) => {
        const now = await timeOf(db);
        const events = await db
          .selectFrom("audit_event")
          .select(["id", "at"])
          .where("at", ">=", since)
          // By id, the planner would read the whole primary key.
          .orderBy("at")
          .execute();
        return { now, events: events.sort((one, other) => one.id - other.id) };
      }),
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
    async batchesSince(at) {
      const rows = await database.read("audit_batch.since", (db) =>
        db.selectFrom(table).selectAll().where("last_at", ">=", at).orderBy("number").execute(),
      );
      return rows.map(batchOf);
    },
    async batchesOfIds(first, last) {
      const rows = await database.read("audit_batch.of_ids", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where(sql<boolean>`int8range(first_id, last_id, '[]') && int8range(${first}, ${last}, '[]')`)
          .orderBy("number")
          .execute(),
      );
      return rows.map(batchOf);
    },
    append: (batch, audit) =>
      database.write("audit_batch.append", async (tx) => {
        const appended = await tx
          .insertInto(table)
          .values({
            number: batch.number,
            first_id: batch.ids.length === 0 ? 0 : Math.min(...batch.ids),
            last_id: Math.max(...batch.ids, 0),
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
          .select("batch")
          .where("destination", "=", destination)
          .executeTakeFirst(),
      );
      return row?.batch;
    },
    async saveExported(destination, batch) {
      await database.writeAtOnce("audit_export.save", (db) =>
        db
          .insertInto("audit_export")
          .values({ destination, batch })
          .onConflict((c) => c.column("destination").doUpdateSet({ batch, updated_at: new Date() }))
          .execute(),
      );
    },
  };
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
