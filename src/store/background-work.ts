import { randomUUID } from "node:crypto";
import { sql } from "kysely";
import { withDeadline } from "../util/deadline.ts";
import type { Database } from "./database.ts";

/** Recurring work that one replica does for all. */
export interface BackgroundWork {
  /**
   * Runs `work`, unless a replica runs it or began it less than `everyMs` ago. A replica that dies loses the work within a minute.
   * @param work must stop soon after its signal is aborted: another replica may have taken over, or the store is closing
   * @param options.leaseMs how soon another replica can take over the work of one that has died, ms (60000)
   * @returns undefined if it is not this replica's turn
   */
  run<T>(
    name: string,
    everyMs: number,
    work: (signal: AbortSignal) => Promise<T>,
    options?: { readonly leaseMs?: number },
  ): Promise<T | undefined>;
  /** Aborts the work of this replica, waits for it for a short time, and leaves it to the others. */
  close(): Promise<void>;
}

const table = "background_work";
const defaultLeaseMs = 60_000;
const closeMs = 3_000;
const inMs = (ms: number) => sql<Date>`now() + ${ms} * interval '1 millisecond'`;
/** Times after this are not true: the database's clock was ahead once. */
const soon = inMs(2 * defaultLeaseMs);
const renewEvery = (leaseMs: number) => leaseMs / 3;
/** Without a confirmation for this long, another replica may be about to take over. ms */
const unconfirmed = (leaseMs: number) => (leaseMs * 3) / 4;

/**
 * Leases by the database's clock, one row per work: session locks would not work through a transaction-mode pooler.
 * @param options.exclusive no other process uses the database: leases of earlier processes are void
 */
export function backgroundWork(
  database: Database,
  { exclusive = false }: { readonly exclusive?: boolean } = {},
): BackgroundWork {
  const owner = randomUUID();
  const running = new Map<string, { readonly abort: () => void; readonly ended: Promise<unknown> }>();
  let closing = false;

  async function take(name: string, everyMs: number, leaseMs: number): Promise<boolean> {
    const { rows } = await database.writeAtOnce("background_work.take", (db) =>
      sql`
        insert into ${sql.table(table)} as known (name, owner, lease_until, started_at)
        values (${name}, ${owner}, ${inMs(leaseMs)}, now())
        on conflict (name) do update
        set owner = excluded.owner, lease_until = excluded.lease_until, started_at = excluded.started_at
        where (known.started_at <= now() - ${everyMs} * interval '1 millisecond' or known.started_at > ${soon})
          and (${exclusive} or known.lease_until is null or known.lease_until <= now() or known.lease_until > ${soon})
        returning 1`.execute(db),
    );
    return rows.length > 0;
  }

  async function renew(name: string, leaseMs: number): Promise<boolean> {
    const rows = await database.writeAtOnce("background_work.renew", (db) =>
      db
        .updateTable(table)
        .set({ lease_until: inMs(leaseMs) })
        .where("name", "=", name)
        .where("owner", "=", owner)
        .returning("name")
        .execute(),
    );
    return rows.length > 0;
  }

  async function release(name: string): Promise<void> {
    await database.write("background_work.release", async (tx) => {
      await tx
        .updateTable(table)
        .set({ owner: null, lease_until: null })
        .where("name", "=", name)
        .where("owner", "=", owner)
        .execute();
      // Some names belong to a set of routes that no replica has any more.
      await tx
        .deleteFrom(table)
        .where("started_at", "<", sql<Date>`now() - interval '1 day'`)
        .where((e) => e.or([e("lease_until", "is", null), e("lease_until", "<", sql<Date>`now()`)]))
        .execute();
    });
  }

  /** Renews the lease until it is stopped, and aborts if the lease may be lost. */
  function keep(name: string, leaseMs: number, abort: () => void): () => void {
    const unconfirmedMs = unconfirmed(leaseMs);
    let lost = setTimeout(abort, unconfirmedMs).unref();
    const timer = setInterval(() => {
      const askedAt = performance.now();
      renew(name, leaseMs)
        .then((kept) => {
          if (!kept) return abort();
          clearTimeout(lost);
          lost = setTimeout(abort, unconfirmedMs - (performance.now() - askedAt)).unref();
        })
        // The database may be back at the next renewal.
        .catch(() => {});
    }, renewEvery(leaseMs)).unref();
    return () => {
      clearInterval(timer);
      clearTimeout(lost);
    };
  }

  async function runLeased<T>(
    name: string,
    controller: AbortController,
    work: (signal: AbortSignal) => Promise<T>,
    leaseMs: number,
  ): Promise<T> {
    const stopRenewing = keep(name, leaseMs, () =>
      controller.abort(new Error(`another replica may do ${name}`)),
    );
    try {
      return await work(controller.signal);
    } finally {
      stopRenewing();
      // Without it, the lease expires.
      await release(name).catch(() => {});
    }
  }

  return {
    async run(name, everyMs, work, { leaseMs = defaultLeaseMs } = {}) {
      if (closing || running.has(name)) return undefined;
      const controller = new AbortController();
      const ended = Promise.withResolvers<void>();
      const abort = () => controller.abort(new Error("the store is closing"));
      running.set(name, { abort, ended: ended.promise });
      try {
        if (!(await take(name, everyMs, leaseMs))) return undefined;
        return await runLeased(name, controller, work, leaseMs);
      } finally {
        running.delete(name);
        ended.resolve();
      }
    },
    async close() {
      closing = true;
      const works = [...running.entries()];
      for (const [, { abort }] of works) abort();
      await Promise.all(
        works.map(([name, { ended }]) => withDeadline(ended, closeMs, () => release(name).catch(() => {}))),
      );
    },
  };
}
