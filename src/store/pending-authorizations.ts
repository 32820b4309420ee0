import { type Selectable, sql } from "kysely";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { hashedHandle } from "./hashed-handle.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/**
 * `sign_in`: at the company's provider. `handover`: session code from the issuer's host to a route's. `consent_link`: a link that a call
 * was answered with. `agreed`: its button was pressed. `connect`: confirmed on the issuer's host. `upstream`: a consent.
 */
export type PendingKind = "sign_in" | "handover" | "consent_link" | "agreed" | "connect" | "upstream";

export interface PendingAuthorization<Payload> {
  readonly kind: PendingKind;
  /** Secret handle; the table stores only its SHA-256. */
  readonly state: string;
  readonly userId?: string;
  readonly expiresAt: Date;
  /** Encrypted at rest. JSON. */
  readonly payload: Payload;
}

export interface PendingAuthorizations {
  /** @param keepPerUser maximum per kind and user; older ones are dropped. Resolves with the number of dropped rows. */
  create<P>(row: PendingAuthorization<P>, keepPerUser?: number): Promise<number>;
  /** Reads without consuming. */
  find<P>(kind: PendingKind, state: string): Promise<PendingAuthorization<P> | undefined>;
  /** Single use: one conditional delete, so that only one of two callers gets the row. Expired rows count as absent. */
  consume<P>(kind: PendingKind, state: string): Promise<PendingAuthorization<P> | undefined>;
}

const table = "pending_authorization";
const unexpired = sql<boolean>`expires_at > now()`;

/** Pending consents and sign-ins, found by the hash of their state, for single use. */
export function pendingAuthorizations(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
): PendingAuthorizations {
  const { clock } = database;
  async function decryptRow<P>(
    kind: PendingKind,
    state: string,
    row: Selectable<Tables["pending_authorization"]>,
  ): Promise<PendingAuthorization<P>> {
    return {
      kind,
      state,
      ...(row.user_id !== null && { userId: row.user_id }),
      expiresAt: clock.fromDatabase(row.expires_at),
      payload: await decrypt<P>(table, [kind, row.state_name], row.sealed),
    };
  }
  return {
    async create(row, keepPerUser) {
      const stateName = hashedHandle(row.state);
      await macs.ready();
      const sealed = await encrypt(table, [row.kind, stateName], row.payload);
      const values = {
        kind: row.kind,
        state_name: stateName,
        user_id: row.userId ?? null,
        expires_at: clock.toDatabase(row.expiresAt),
      };
      return database.write("pending_authorization.create", async (tx) => {
        await tx
          .insertInto(table)
          .values({ ...values, ...sealed, mac: macs.sign(table, values) })
          .execute();
        if (row.userId === undefined || keepPerUser === undefined) return 0;
        const dropped = await tx
          .deleteFrom(table)
          .where("kind", "=", row.kind)
          .where("state_name", "in", (query) =>
            query
              .selectFrom(table)
              .select("state_name")
              .where("kind", "=", row.kind)
              .where("user_id", "=", row.userId ?? "")
              .orderBy("expires_at", "desc")
              .offset(keepPerUser),
          )
          .returning("kind")
          .execute();
        return dropped.length;
      });
    },
    async find<P>(kind: PendingKind, state: string) {
      const found = await database.read("pending_authorization.find", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("kind", "=", kind)
          .where("state_name", "=", hashedHandle(state))
          .where(unexpired)
          .executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && decryptRow<P>(kind, state, row);
    },
    async consume<P>(kind: PendingKind, state: string) {
      const taken = await database.write("pending_authorization.consume", (tx) =>
        tx
          .deleteFrom(table)
          .where("kind", "=", kind)
          .where("state_name", "=", hashedHandle(state))
          .where(unexpired)
          .returningAll()
          .executeTakeFirst(),
      );
      const row = await macs.find(table, taken);
      return row && decryptRow<P>(kind, state, row);
    },
  };
}
