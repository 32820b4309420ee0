import { randomUUID } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { DecryptionFailed } from "./errors.ts";
import { messageChannel, type Notifications } from "./notifications/notifications.ts";
import type { Tables } from "./tables.ts";

/** Encrypted together with the payload, so that a changed row is not delivered later. */
interface Envelope {
  /** Unix ms, by the database's clock. */
  readonly expiresAt: number;
  readonly payload: unknown;
}

/** Messages between replicas, for what one replica holds open and another one has received the answer to. */
export interface ReplicaMessages {
  /**
   * Sends JSON to one replica, which has 60 s to receive it. `full`: it has not received too many earlier ones, as after it has died;
   * `too_large`: over 4 MiB. `sent` does not mean received.
   */
  send(toReplica: string, payload: unknown): Promise<"sent" | "full" | "too_large">;
  /** Sends JSON to every replica that receives, this one included; to one that cannot reach the database, within 60 s. Keep it small. */
  broadcast(payload: unknown): Promise<"sent" | "full" | "too_large">;
  /**
   * Calls `listener` for every message to `replicaId`, which must be unique, and for every broadcast, in the order of sending, and each
   * once. While the database is unreachable, messages wait. Returns a function that stops it.
   */
  receive(replicaId: string, listener: (payload: unknown) => void): () => void;
}

const table = "replica_message";
const everyReplica = "*";
const keptMs = 60_000;
const maxBytes = 4 * 1024 * 1024;
/** Per replica, not yet received. */
const mailbox = { messages: 1_000, bytes: 64 * 1024 * 1024 };
/** Read at once. */
const batchBytes = 8 * 1024 * 1024;
const retryMs = 1_000;
const unexpired = sql<boolean>`expires_at > now()`;

interface Row {
  readonly to_replica: string;
  readonly id: string;
  readonly position: number;
  readonly sealed: string;
}

/**
 * @param onError called when messages cannot be read, or one cannot be decrypted or handled
 */
export function replicaMessages(
  database: Database,
  { encrypt, decrypt }: Encryption,
  notifications: Pick<Notifications, "subscribe">,
  onError: (error: unknown) => void,
): ReplicaMessages {
  const { clock } = database;

  async function send(to: string, payload: unknown): Promise<"sent" | "full" | "too_large"> {
    if (Buffer.byteLength(JSON.stringify(payload) ?? "") > maxBytes) return "too_large";
    const id = randomUUID();
    const expires_at = clock.toDatabase(new Date(Date.now() + keptMs));
    const envelope: Envelope = { expiresAt: expires_at.getTime(), payload };
    const sealed = await encrypt(table, [to, id], envelope);
    return database.write("replica_message.send", async (tx) => {
      const { rows } = await sql<{ full: boolean }>`
        select count(*) >= ${mailbox.messages} or coalesce(sum(octet_length(sealed)), 0) >= ${mailbox.bytes} as full
        from ${sql.table(table)} where to_replica = ${to} and ${unexpired}`.execute(tx);
      if (rows[0]?.full) return "full";
      await tx
        .insertInto(table)
        .values({ to_replica: to, id, ...sealed, expires_at })
        .execute();
      await sql`select pg_notify(${messageChannel}, ${to})`.execute(tx);
      return "sent";
    });
  }

  /** The next messages to a replica, which are deleted, in one statement: no two readers get the same one. */
  const take = (replicaId: string) =>
    database.writeAtOnce("replica_message.receive", async (db) => {
      const { rows } = await sql<Row>`
        with next as (
          select id from (
            select id, sum(octet_length(sealed)) over (order by position) - octet_length(sealed) as before
            from ${sql.table(table)} where to_replica = ${replicaId} and ${unexpired}) as waiting
          where before < ${batchBytes})
        delete from ${sql.table(table)} where to_replica = ${replicaId} and id in (select id from next)
        returning to_replica, id, position, sealed`.execute(db);
      return rows;
    });

  /** Broadcasts that this replica has not received; they are removed when they have expired. */
  const unseen = (db: Kysely<Tables>, seen: readonly string[]) =>
    db
      .selectFrom(table)
      .select(["to_replica", "id", "position", "sealed"])
      .where("to_replica", "=", everyReplica)
      .where(unexpired)
      .where(sql<boolean>`not id = any(${seen})`)
      .orderBy("position")
      .limit(100)
      .execute();

  function receive(replicaId: string, listener: (payload: unknown) => void): () => void {
    /** Ids of broadcasts, and when they have expired for certain. */
    const seen = new Map<string, number>();
    /** Earlier broadcasts concern nothing that this replica has open. */
    const startedAt = clock.toDatabase(new Date()).getTime();
    const wanted = { own: true, broadcasts: true };
    let reading = false;
    let stopped = false;
    let retry: NodeJS.Timeout | undefined;

    async function deliver(rows: readonly Row[]): Promise<void> {
      for (const { to_replica, id, sealed } of [...rows].sort((a, b) => a.position - b.position)) {
        try {
          const { expiresAt, payload } = await decrypt<Envelope>(table, [to_replica, id], sealed);
          if (stopped || expiresAt < clock.toDatabase(new Date()).getTime()) continue;
          if (to_replica === everyReplica && expiresAt - keptMs < startedAt) continue;
          listener(payload);
        } catch (error) {
          onError(
            error instanceof DecryptionFailed ? new Error("unreadable message", { cause: error }) : error,
          );
        }
      }
    }

    async function readAll(): Promise<void> {
      while (!stopped && wanted.own) {
        wanted.own = false;
        const rows = await take(replicaId);
        // There may be more than one batch.
        if (rows.length > 0) wanted.own = true;
        await deliver(rows);
      }
      while (!stopped && wanted.broadcasts) {
        wanted.broadcasts = false;
        const now = performance.now();
        for (const [id, until] of seen) if (until < now) seen.delete(id);
        const rows = await database.read("replica_message.broadcasts", (db) => unseen(db, [...seen.keys()]));
        for (const { id } of rows) seen.set(id, now + 2 * keptMs);
        if (rows.length > 0) wanted.broadcasts = true;
        await deliver(rows);
      }
    }

    async function read(): Promise<void> {
      if (reading) return;
      reading = true;
      try {
        while (!stopped && (wanted.own || wanted.broadcasts)) await readAll();
      } catch (error) {
        // What was asked for is asked for again.
        wanted.own = wanted.broadcasts = true;
        onError(error);
        clearTimeout(retry);
        if (!stopped) retry = setTimeout(read, retryMs).unref();
      } finally {
        reading = false;
      }
    }

    const unsubscribe = notifications.subscribe((change) => {
      if (change.table === "everything") wanted.own = wanted.broadcasts = true;
      else if (change.table !== table) return;
      else if (change.to === replicaId) wanted.own = true;
      else if (change.to === everyReplica) wanted.broadcasts = true;
      else return;
      void read();
    });
    void read();
    return () => {
      stopped = true;
      clearTimeout(retry);
      unsubscribe();
    };
  }

  return { send, broadcast: (payload) => send(everyReplica, payload), receive };
}
