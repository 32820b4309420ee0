import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { hashedHandle } from "./hashed-handle.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";

/** A browser's session on one host. The cookie contains `id`, the table its SHA-256. */
export interface BrowserSessionRecord {
  readonly id: string;
  readonly host: string;
  readonly userId: string;
  /** Hashed handle of the issuer-host session it was handed over from; it ends with that session. */
  readonly parentName?: string;
  readonly createdAt: Date;
  readonly expiresAt: Date;
}

export interface BrowserSessions {
  /** Creates nothing if the parent has ended in the meantime: `find` then returns undefined. */
  create(session: BrowserSessionRecord): Promise<void>;
  find(id: string): Promise<BrowserSessionRecord | undefined>;
  /** Whether the session with this hashed handle exists and has not expired: tokens minted for it end with it. */
  isLive(name: string): Promise<boolean>;
  /** Sign-out: ends the session, its parent and all sessions handed over from them. Without a session, no audit event is written. */
  end(id: string, audit?: AuditEvent): Promise<void>;
  endForUser(userId: string, audit?: AuditEvent): Promise<void>;
}

const table = "browser_session";

/** Sessions by the hash of their id: read access to the table does not allow session hijacking. */
export function browserSessions(database: Database, macs: RowMacs): BrowserSessions {
  return {
    async create(session) {
      const values = {
        id_name: hashedHandle(session.id),
        host: session.host,
        user_id: session.userId,
        parent_name: session.parentName ?? null,
        created_at: session.createdAt,
        expires_at: session.expiresAt,
      };
      await macs.ready();
      await database.write("browser_session.create", async (tx) => {
        if (session.parentName !== undefined) {
          // Locked, so that a concurrent sign-out either ends this session, too, or prevents it.
          const parent = await tx
            .selectFrom(table)
            .selectAll()
            .where("id_name", "=", session.parentName)
            .forShare()
            .executeTakeFirst();
          if (parent === undefined || !macs.accepts(table, parent)) return;
        }
        await tx
          .insertInto(table)
          .values({ ...values, mac: macs.sign(table, values) })
          .execute();
      });
    },
    async find(id) {
      const found = await database.read("browser_session.find", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("id_name", "=", hashedHandle(id))
          .where("expires_at", ">", new Date())
          .executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return (
        row && {
          id,
          host: row.host,
          userId: row.user_id,
          ...(row.parent_name !== null && { parentName: row.parent_name }),
          createdAt: row.created_at,
          expiresAt: row.expires_at,
        }
      );
    },
    async isLive(name) {
      const found = await database.read("browser_session.is_live", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("id_name", "=", name)
          .where("expires_at", ">", new Date())
          .executeTakeFirst(),
      );
      return (await macs.find(table, found)) !== undefined;
    },
    async end(id, audit) {
      await database.write("browser_session.end", async (tx) => {
        const session = await tx
          .selectFrom(table)
          .select(["id_name", "parent_name", "user_id"])
          .where("id_name", "=", hashedHandle(id))
          .executeTakeFirst();
        if (session === undefined) return;
        const root = session.parent_name ?? session.id_name;
        await tx
          .deleteFrom(table)
          .where((e) =>
            e.or([e("id_name", "=", session.id_name), e("id_name", "=", root), e("parent_name", "=", root)]),
          )
          .execute();
        if (audit) await writeAuditEvent(tx, audit);
        await notify(tx, { table: "browser_session", userId: session.user_id });
      });
    },
    async endForUser(userId, audit) {
      await database.write("browser_session.end_for_user", async (tx) => {
        await tx.deleteFrom(table).where("user_id", "=", userId).execute();
        if (audit) await writeAuditEvent(tx, audit);
        await notify(tx, { table: "browser_session", userId });
      });
    },
  };
}
