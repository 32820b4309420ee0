import type { Selectable } from "kysely";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { hashedHandle } from "./hashed-handle.ts";
import { notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** A person's claims and tokens from the company's provider, encrypted. One per person: the newest sign-in. */
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
  /** Unix seconds, if the provider specified it. */
  readonly accessTokenExpiresAt?: number;
  readonly refreshToken?: string;
  /** When these tokens were obtained, Unix ms: equals `checkedAt` until a replica claims the next check. */
  readonly tokensAt?: number;
  readonly checkedAt: Date;
  /** Written by a version that did not check whether the e-mail address is verified: due for a recheck. */
  readonly emailUnchecked?: true;
}

export interface SignInSessions {
  find(userId: string): Promise<SignInSession | undefined>;
  /** By the provider's session id, which its logout tokens contain. */
  findBySid(providerId: string, sid: string): Promise<SignInSession | undefined>;
  /** Notifies every replica (as a change of the person's browser sessions), because claims determine a person's access. */
  put(session: SignInSession, audit?: AuditEvent): Promise<void>;
  /**
   * Stores the result of a recheck at the provider, if the person's tokens have not changed since. False: the person has signed in
   * again, or the record is gone. If `checkedAt` was moved back in the meantime, to request another recheck, it stays there.
   * @param asked the record as it was when the check was claimed
   */
  replace(session: SignInSession, asked: Pick<SignInSession, "tokensAt" | "checkedAt">): Promise<boolean>;
  /** Moves `checkedAt` if it is still `from`: only one of several replicas may recheck at the provider. */
  claimCheck(userId: string, from: Date, to: Date): Promise<boolean>;
}

const table = "sign_in_session";
type EncryptedPart = Omit<
  SignInSession,
  "userId" | "providerId" | "subject" | "checkedAt" | "emailUnchecked"
> & {
  /** `tokensAt` of a record whose e-mail address was checked. An older version copies it unchanged next to newer tokens. */
  readonly judgedAt?: number | null;
};

/**
 * Claims and tokens of each person from the company's provider; encrypted except for lookup columns.
 * @param migrate migrates a record that is `emailUnchecked`; undefined: it counts as absent
 */
export function signInSessions(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  migrate: (record: SignInSession) => SignInSession | undefined = (record) => record,
): SignInSessions {
  async function decryptRow(row: Selectable<Tables["sign_in_session"]>): Promise<SignInSession> {
    const { judgedAt, ...part } = await decrypt<EncryptedPart>(table, [row.user_id], row.sealed);
    return {
      ...part,
      ...(judgedAt !== (part.tokensAt ?? null) && { emailUnchecked: true }),
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
  /** All columns except the key. */
  async function valuesOf(session: SignInSession) {
    const { userId, providerId, subject, checkedAt, emailUnchecked, ...part } = session;
    const encryptedPart: EncryptedPart = emailUnchecked
      ? part
      : { ...part, judgedAt: session.tokensAt ?? null };
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
      const record = row && (await decryptRow(row));
      return record?.emailUnchecked ? migrate(record) : record;
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
      return row && decryptRow(row);
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
        if (row === undefined || (await decryptRow(row)).tokensAt !== asked.tokensAt) return false;
        const movedBack = row.checked_at < asked.checkedAt;
        const values = await valuesOf(movedBack ? { ...session, checkedAt: row.checked_at } : session);
        const replaced = await database.write("sign_in_session.replace", async (tx) => {
          const written = await tx
            .updateTable(table)
            .set(values)
            .where("user_id", "=", userId)
            // Every write has a new ciphertext: the row has not changed since it was read.
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
  };
}
