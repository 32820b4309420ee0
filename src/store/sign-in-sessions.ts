import type { Selectable } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { hashedHandle } from "./hashed-handle.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** What the company's provider said of a person, with its tokens, encrypted. One per person: the newest sign-in. */
export interface SignInSession {
  readonly userId: string;
  readonly providerId: string;
  readonly subject: string;
  readonly sid?: string;
  readonly email?: string;
  readonly name?: string;
  readonly groups: readonly string[];
  readonly claims: Record<string, unknown>;
  readonly idToken?: string;
  readonly accessToken?: string;
  /** Unix seconds, where the provider said. */
  readonly accessTokenExpiresAt?: number;
  readonly refreshToken?: string;
  /** When these tokens were got, Unix ms: `checkedAt`, until a replica that asks for new ones moves that. */
  readonly tokensAt?: number;
  readonly checkedAt: Date;
  /** Written by a version that did not ask whether the e-mail address is verified: due for a recheck. */
  readonly unjudged?: true;
}

export interface SignInSessions {
  find(userId: string): Promise<SignInSession | undefined>;
  /** By the provider's own session id, which its logout tokens name. */
  findBySid(providerId: string, sid: string): Promise<SignInSession | undefined>;
  /** Tells every replica (as a change of the person's browser sessions), since claims decide what a person may do. */
  put(session: SignInSession, audit?: AuditEvent): Promise<void>;
  /**
   * Stores what asking the provider again has brought, if the person's tokens still are those it was asked with. False: the person
   * has signed in since, or is gone. If somebody has moved `checkedAt` back since, because the provider is to be asked once more, it
   * stays there.
   * @param asked the record as it was when the question was claimed
   */
  replace(session: SignInSession, asked: Pick<SignInSession, "tokensAt" | "checkedAt">): Promise<boolean>;
  /** Moves `checkedAt` if it still is `from`: of all replicas that want to ask the provider again, one may. */
  claimCheck(userId: string, from: Date, to: Date): Promise<boolean>;
  /** Of several replicas that delete the same one, the first writes the audit event. */
  delete(userId: string, audit?: AuditEvent): Promise<void>;
}

const table = "sign_in_session";
type EncryptedPart = Omit<SignInSession, "userId" | "providerId" | "subject" | "checkedAt" | "unjudged"> & {
  /** `tokensAt` of what was written by the rule on e-mail addresses. A version that knows no such rule copies it, beside newer tokens. */
  readonly judgedAt?: number | null;
};

/**
 * What the company's provider said of each person, and its tokens; sealed but for what finds it.
 * @param judge what counts of a record that is `unjudged`; undefined: nothing
 */
export function signInSessions(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  judge: (record: SignInSession) => SignInSession | undefined = (record) => record,
): SignInSessions {
  async function openRow(row: Selectable<Tables["sign_in_session"]>): Promise<SignInSession> {
    const { judgedAt, ...part } = await decrypt<EncryptedPart>(table, [row.user_id], row.sealed);
    return {
      ...part,
      ...(judgedAt !== (part.tokensAt ?? null) && { unjudged: true }),
      userId: row.user_id,
      providerId: row.provider_id,
      subject: row.subject,
      checkedAt: row.checked_at,
    };
  }
  async function findRow(userId: string) {
    const found = await database.read("sign_in_session.find", (db) =>
      db.selectFrom(table).selectAll().where("user_id", "=", userId).executeTakeFirst(),
    );
    return macs.find(table, found);
  }
  /** All columns but the key. */
  async function valuesOf(session: SignInSession) {
    const { userId, providerId, subject, checkedAt, unjudged, ...part } = session;
    const encryptedPart: EncryptedPart = unjudged ? part : { ...part, judgedAt: session.tokensAt ?? null };
    const clear = {
      provider_id: providerId,
      subject,
      sid_name: session.sid === undefined ? null : hashedHandle(session.sid),
      checked_at: checkedAt,
    };
    await macs.ready();
    const mac = macs.sign(table, { user_id: userId, ...clear });
    return { ...clear, mac, ...(await encrypt(table, [userId], encryptedPart)) };
  }
  return {
    async find(userId) {
      const row = await findRow(userId);
      const record = row && (await openRow(row));
      return record?.unjudged ? judge(record) : record;
    },
    async findBySid(providerId, sid) {
      const found = await database.read("sign_in_session.find_by_sid", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("provider_id", "=", providerId)
          .where("sid_name", "=", hashedHandle(sid))
          .executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && openRow(row);
    },
    async put(session, audit) {
      const values = await valuesOf(session);
      await database.write("sign_in_session.put", async (tx) => {
        await tx
          .insertInto(table)
          .values({ user_id: session.userId, ...values })
          .onConflict((conflict) => conflict.column("user_id").doUpdateSet(values))
          .execute();
        if (audit) await writeAuditEvent(tx, audit);
        await notify(tx, { table: "browser_session", userId: session.userId });
      });
    },
    async replace(session, asked) {
      const { userId } = session;
      for (;;) {
        const row = await findRow(userId);
        if (row === undefined || (await openRow(row)).tokensAt !== asked.tokensAt) return false;
        const movedBack = row.checked_at < asked.checkedAt;
        const values = await valuesOf(movedBack ? { ...session, checkedAt: row.checked_at } : session);
        const replaced = await database.write("sign_in_session.replace", async (tx) => {
          const written = await tx
            .updateTable(table)
            .set(values)
            .where("user_id", "=", userId)
            // Every writing has a ciphertext of its own: nothing has been stored since we looked.
            .where("sealed", "=", row.sealed)
            .where("checked_at", "=", row.checked_at)
            .returning("user_id")
            .execute();
          if (written.length > 0) await notify(tx, { table: "browser_session", userId });
          return written.length > 0;
        });
        if (replaced) return true;
      }
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
