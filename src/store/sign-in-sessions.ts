import type { Database } from "./database.ts";
import type { Encryption } from "./encryption.ts";
import { secretName } from "./secret-name.ts";
import type { SignInSession, SignInSessions } from "./store.ts";

const table = "sign_in_session";
type SealedPart = Omit<SignInSession, "userId" | "providerId" | "subject" | "checkedAt">;

/** What the company's provider said of each person, and its tokens; sealed but for what finds it. */
export function signInSessions(database: Database, { seal, open }: Encryption): SignInSessions {
  return {
    async find(userId) {
      const row = await database.read("sign_in_session.find", (db) =>
        db.selectFrom(table).selectAll().where("user_id", "=", userId).executeTakeFirst(),
      );
      return (
        row && {
          ...(await open<SealedPart>(table, [userId], row.sealed)),
          userId,
          providerId: row.provider_id,
          subject: row.subject,
          checkedAt: row.checked_at,
        }
      );
    },
    async put(session) {
      const { userId, providerId, subject, checkedAt, ...part } = session;
      const sealedPart: SealedPart = part;
      const values = {
        provider_id: providerId,
        subject,
        sid_name: session.sid === undefined ? null : secretName(session.sid),
        checked_at: checkedAt,
        ...(await seal(table, [userId], sealedPart)),
      };
      await database.write("sign_in_session.put", (tx) =>
        tx
          .insertInto(table)
          .values({ user_id: userId, ...values })
          .onConflict((conflict) => conflict.column("user_id").doUpdateSet(values))
          .execute(),
      );
    },
    async delete(userId) {
      await database.write("sign_in_session.delete", (tx) =>
        tx.deleteFrom(table).where("user_id", "=", userId).execute(),
      );
    },
  };
}
