import { sql } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { hashedHandle } from "./hashed-handle.ts";
import type { RowMacs } from "./row-macs.ts";

/** A one-time code that signs a person in on the admin page. The table contains its SHA-256. */
export interface AdminCode {
  readonly code: string;
  /** Hashed handle of the browser session that shows the code: what the code starts ends with it. */
  readonly sessionName: string;
  readonly userId: string;
  readonly expiresAt: Date;
}

/** A session of the admin page. The cookie contains `id`, the table its SHA-256. */
export interface AdminSession {
  readonly id: string;
  readonly sessionName: string;
  readonly userId: string;
  readonly expiresAt: Date;
}

/** Both depend on a browser session: whoever reads one asks `browserSessions.isLive`. */
export interface AdminSessions {
  /** Stores a code, which replaces the earlier ones of its browser session. */
  addCode(code: AdminCode): Promise<void>;
  /** Uses a code: the first caller gets it, whatever it does with it. Undefined: unknown, used or expired. */
  takeCode(code: string): Promise<Omit<AdminCode, "code"> | undefined>;
  /** @param replaces id of the session that this browser had before, which ends */
  create(session: AdminSession, audit: AuditEvent, replaces?: string): Promise<void>;
  find(id: string): Promise<AdminSession | undefined>;
  /** Without a session, no audit event is written. */
  end(id: string, audit: AuditEvent): Promise<void>;
}

const codes = "admin_code";
const sessions = "admin_session";
const now = sql<Date>`now()`;

/** Codes and sessions by their hash: read access to the tables does not allow to use them. */
export function adminSessions(database: Database, macs: RowMacs): AdminSessions {
  const { clock } = database;
  return {
    async addCode({ code, sessionName, userId, expiresAt }) {
      await macs.ready();
      const values = {
        code_name: hashedHandle(code),
        session_name: sessionName,
        user_id: userId,
        expires_at: clock.toDatabase(expiresAt),
      };
      await database.write("admin_code.add", async (tx) => {
        await tx.deleteFrom(codes).where("session_name", "=", sessionName).execute();
        await tx
          .insertInto(codes)
          .values({ ...values, mac: macs.sign(codes, values) })
          .execute();
      });
    },
    async takeCode(code) {
      const taken = await database.writeAtOnce("admin_code.take", (db) =>
        db
          .deleteFrom(codes)
          .where("code_name", "=", hashedHandle(code))
          .where("expires_at", ">", now)
          .returningAll()
          .executeTakeFirst(),
      );
      const row = await macs.find(codes, taken);
      return (
        row && {
          sessionName: row.session_name,
          userId: row.user_id,
          expiresAt: clock.fromDatabase(row.expires_at),
        }
      );
    },
    async create({ id, sessionName, userId, expiresAt }, audit, replaces) {
      await macs.ready();
      const values = {
        id_name: hashedHandle(id),
        session_name: sessionName,
        user_id: userId,
        created_at: clock.toDatabase(new Date()),
        expires_at: clock.toDatabase(expiresAt),
      };
      await database.write("admin_session.create", async (tx) => {
        if (replaces !== undefined)
          await tx.deleteFrom(sessions).where("id_name", "=", hashedHandle(replaces)).execute();
        await tx
          .insertInto(sessions)
          .values({ ...values, mac: macs.sign(sessions, values) })
          .execute();
        await writeAuditEvent(tx, audit);
      });
    },
    async find(id) {
      const found = await database.read("admin_session.find", (db) =>
        db
          .selectFrom(sessions)
          .selectAll()
          .where("id_name", "=", hashedHandle(id))
          .where("expires_at", ">", now)
          .executeTakeFirst(),
      );
      const row = await macs.find(sessions, found);
      return (
        row && {
          id,
          sessionName: row.session_name,
          userId: row.user_id,
          expiresAt: clock.fromDatabase(row.expires_at),
        }
      );
    },
    async end(id, audit) {
      await database.write("admin_session.end", async (tx) => {
        const ended = await tx
          .deleteFrom(sessions)
          .where("id_name", "=", hashedHandle(id))
          .returning("id_name")
          .executeTakeFirst();
        if (ended) await writeAuditEvent(tx, audit);
      });
    },
  };
}
