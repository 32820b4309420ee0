import type { Selectable } from "kysely";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption.ts";
import { notify } from "./notify.ts";
import type { RowMacs } from "./row-macs.ts";
import { secretName } from "./secret-name.ts";
import type { SignInSession, SignInSessions } from "./store.ts";
import type { Tables } from "./tables.ts";
import { writeAuditEvent } from "./write-audit-event.ts";

const table = "sign_in_session";
type SealedPart = Omit<SignInSession, "userId" | "providerId" | "subject" | "checkedAt">;

/** What the company's provider said of each person, and its tokens; sealed but for what finds it. */
export function signInSessions(
  database: Database,
  { seal, open }: Encryption,
  macs: RowMacs,
): SignInSessions {
  async function openRow(row: Selectable<Tables["sign_in_session"]>): Promise<SignInSession> {
    return {
      ...(await open<SealedPart>(table, [row.user_id], row.sealed)),
      userId: row.user_id,
      providerId: row.provider_id,
      subject: row.subject,
      checkedAt: row.checked_at,
    };
  }
  return {
    async find(userId) {
      const found = await database.read("sign_in_session.find", (db) =>
        db.selectFrom(table).selectAll().where("user_id", "=", userId).executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && openRow(row);
    },
    async findBySid(providerId, sid) {
      const found = await database.read("sign_in_session.find_by_sid", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("provider_id", "=", providerId)
          .where("sid_name", "=", secretName(sid))
          .executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && openRow(row);
    },
    async put(session, audit) {
      const { userId, providerId, subject, checkedAt, ...part } = session;
      const sealedPart: SealedPart = part;
      const clear = {
        provider_id: providerId,
        subject,
        sid_name: session.sid === undefined ? null : secretName(session.sid),
        checked_at: checkedAt,
      };
      await macs.ready();
      const values = {
        ...clear,
        mac: macs.sign(table, { user_id: userId, ...clear }),
        ...(await seal(table, [userId], sealedPart)),
      };
      await database.write("sign_in_session.put", async (tx) => {
        await tx
          .insertInto(table)
          .values({ user_id: userId, ...values })
          .onConflict((conflict) => conflict.column("user_id").doUpdateSet(values))
          .execute();
        if (audit) await writeAuditEvent(tx, audit);
        await notify(tx, { table: "browser_session", userId });
      });
    },
    async claimCheck(userId, from, to) {
      await macs.ready();
      return database.write("sign_in_session.claim_check", async (tx) => {
        const row = await tx
          .selectFrom(table)
          .selectAll()
          .where("user_id", "=", userId)
          .where("checked_at", "=", from)
          .forUpdate()
          .executeTakeFirst();
        if (row === undefined || !macs.accepts(table, row)) return false;
        await tx
          .updateTable(table)
          .set({ checked_at: to, mac: macs.sign(table, { ...row, checked_at: to }) })
          .where("user_id", "=", userId)
          .execute();
        return true;
      });
    },
    async delete(userId, audit) {
      await database.write("sign_in_session.delete", async (tx) => {
        const rows = await tx.deleteFrom(table).where("user_id", "=", userId).returning("user_id").execute();
        if (audit && rows.length > 0) await writeAuditEvent(tx, audit);
        await notify(tx, { table: "browser_session", userId });
      });
    },
  };
}
