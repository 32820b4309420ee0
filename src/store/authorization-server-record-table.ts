import { type Selectable, sql, type Transaction } from "kysely";
import { writeAuditEvent } from "./audit-events.ts";
import type {
  AuthorizationServerRecord,
  AuthorizationServerRecords,
} from "./authorization-server-records.ts";
import type { Database } from "./database.ts";
import { deleteGrants } from "./delete-grants.ts";
import type { Encryption } from "./encryption/encryption.ts";
import type { DecryptionFailed } from "./errors.ts";
import { putMembers } from "./granted-members.ts";
import { grantQueries, unexpired } from "./grants.ts";
import { hashedHandle } from "./hashed-handle.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

const table = "authorization_server_record";
const refreshToken = "RefreshToken";
/** Model of our own rows that name the successor of a used refresh token; they expire with the grace period. */
const refreshSuccessor = "RefreshTokenSuccessor";
type Row = Selectable<Tables["authorization_server_record"]>;

const text = (value: unknown) => (typeof value === "string" ? value : null);
const nameOf = (value: unknown) => (typeof value === "string" ? hashedHandle(value) : null);

/** oidc-provider's records: found by hashed ids and encrypted; grant id and owner are in clear text for revoking and listing. */
export function authorizationServerRecords(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  onUnreadable: (error: DecryptionFailed) => void,
): AuthorizationServerRecords {
  const { clock } = database;

  const decryptPayload = (row: Row) =>
    decrypt<{ id: string; payload: Record<string, unknown> }>(table, [row.model, row.id_name], row.sealed);

  async function findBy(
    model: string,
    column: "id_name" | "uid_name" | "user_code_name",
    secret: string,
  ): Promise<AuthorizationServerRecord | undefined> {
    const found = await database.read(`authorization_server_record.find`, (db) =>
      db
        .selectFrom(table)
        .selectAll()
        .where("model", "=", model)
        .where(column, "=", hashedHandle(secret))
        .where(unexpired)
        .executeTakeFirst(),
    );
    const row = await macs.find(table, found);
    if (row === undefined) return undefined;
    return {
      model,
      ...(await decryptPayload(row)),
      ...(row.expires_at && { expiresAt: clock.fromDatabase(row.expires_at) }),
      ...(row.consumed_at && { consumedAt: clock.fromDatabase(row.consumed_at) }),
    };
  }

  /** All columns of a record that has not been consumed. */
  async function rowOf({ model, id, payload, expiresAt }: Omit<AuthorizationServerRecord, "consumedAt">) {
    const idName = hashedHandle(id);
    const clear = {
      grant_id: model === "Grant" ? id : text(payload.grantId),
      uid_name: nameOf(payload.uid),
      user_code_name: nameOf(payload.userCode),
      user_id: text(payload.accountId),
      client_id: text(payload.clientId),
      expires_at: expiresAt === undefined ? null : clock.toDatabase(expiresAt),
    };
    await macs.ready();
    const sealed = await encrypt(table, [model, idName], { id, payload });
    const mac = macs.sign(table, { model, id_name: idName, ...clear, consumed_at: null });
    return { key: { model, id_name: idName }, values: { ...sealed, ...clear, mac } };
  }

  /** Marks a record as used. The row is locked: of two concurrent calls, the second one returns false. */
  async function consumeIn(tx: Transaction<Tables>, model: string, id: string): Promise<boolean> {
    const row = await tx
      .selectFrom(table)
      .selectAll()
      .where("model", "=", model)
      .where("id_name", "=", hashedHandle(id))
      .where("consumed_at", "is", null)
      .where(unexpired)
      .forUpdate()
      .executeTakeFirst();
    if (row === undefined || !macs.accepts(table, row)) return false;
    const consumed_at = clock.toDatabase(new Date());
    await tx
      .updateTable(table)
      .set({ consumed_at, mac: macs.sign(table, { ...row, consumed_at }) })
      .where("model", "=", model)
      .where("id_name", "=", row.id_name)
      .execute();
    return true;
  }

  async function put(tx: Transaction<Tables>, { key, values }: Awaited<ReturnType<typeof rowOf>>) {
    await tx
      .insertInto(table)
      .values({ ...key, ...values })
      .onConflict((conflict) =>
        conflict
          .columns(["model", "id_name"])
          .doUpdateSet(values)
          // A used record stays used.
          .where("authorization_server_record.consumed_at", "is", null),
      )
      .execute();
  }

  async function putAll(
    tx: Transaction<Tables>,
    row: Awaited<ReturnType<typeof rowOf>>,
    ...[record, audit, requested, members = []]: Parameters<AuthorizationServerRecords["upsert"]>
  ): Promise<void> {
    await put(tx, row);
    if (requested && requested.routeIds.length > 0)
      await tx
        .insertInto("delegation")
        .values(
          requested.routeIds.map((routeId) => {
            const row = {
              grant_id: record.id,
              route_id: routeId,
              account: requested.account,
              owner_id: requested.ownerId,
              upstream: null,
              delegated_at: null,
              expires_at: clock.toDatabase(requested.expiresAt),
            };
            return { ...row, mac: macs.sign("delegation", row) };
          }),
        )
        .execute();
    await putMembers(tx, { macs, clock }, { grantId: record.id, expiresAt: record.expiresAt }, members);
    if (audit) await writeAuditEvent(tx, audit);
  }

  /** Whether the sign-in or grant that a record depends on exists. Locks it until the transaction ends. */
  async function isAllowed(
    tx: Transaction<Tables>,
    { model, payload }: Pick<AuthorizationServerRecord, "model" | "payload">,
  ): Promise<boolean> {
    if (model === "Grant") {
      const person = await tx
        .selectFrom("sign_in_session")
        .selectAll()
        .where("user_id", "=", text(payload.accountId))
        .forShare()
        .executeTakeFirst();
      return person !== undefined && macs.accepts("sign_in_session", person);
    }
    const grant = await tx
      .selectFrom(table)
      .selectAll()
      .where("model", "=", "Grant")
      .where("id_name", "=", nameOf(payload.grantId))
      .where(unexpired)
      .forShare()
      .executeTakeFirst();
    return grant !== undefined && macs.accepts(table, grant);
  }

  async function destroy(model: string, id: string): Promise<void> {
    await database.write("authorization_server_record.destroy", async (tx) => {
      if (model === "Grant") await deleteGrants(tx, [id]);
      else
        await tx
          .deleteFrom(table)
          .where("model", "=", model)
          .where("id_name", "=", hashedHandle(id))
          .execute();
    });
  }

  return {
    async upsert(...given) {
      const row = await rowOf(given[0]);
      await database.write("authorization_server_record.upsert", (tx) => putAll(tx, row, ...given));
    },
    async createAlone(...given) {
      const row = await rowOf(given[0]);
      return database.write("authorization_server_record.create_alone", async (tx) => {
        const { user_id, client_id } = row.values;
        // Two forms may be sent at the same moment.
        await sql`select pg_advisory_xact_lock(hashtext(${`grant ${user_id} ${client_id}`}))`.execute(tx);
        const found = await tx
          .selectFrom(table)
          .selectAll()
          .where("model", "=", "Grant")
          .where("user_id", "=", user_id)
          .where("client_id", "=", client_id)
          .where(unexpired)
          .execute();
        if (found.some((one) => macs.accepts(table, one))) return false;
        await putAll(tx, row, ...given);
        return true;
      });
    },
    async upsertIfAllowed(record, audit, members = []) {
      const row = await rowOf(record);
      return database.write("authorization_server_record.upsert_if_allowed", async (tx) => {
        // Written before the check: the write and `endAccess` wait for each other, so that one of them sees the other's result.
        await put(tx, row);
        if (await isAllowed(tx, record)) {
          const grant = { grantId: record.id, expiresAt: record.expiresAt };
          await putMembers(tx, { macs, clock }, grant, members);
          if (audit) await writeAuditEvent(tx, audit);
          return true;
        }
        const { model, id_name } = row.key;
        await tx.deleteFrom(table).where("model", "=", model).where("id_name", "=", id_name).execute();
        return false;
      });
    },
    find: (model, id) => findBy(model, "id_name", id),
    findByUid: (model, uid) => findBy(model, "uid_name", uid),
    findByUserCode: (model, userCode) => findBy(model, "user_code_name", userCode),

    async consume(model, id) {
      await macs.ready();
      return database.write("authorization_server_record.consume", (tx) => consumeIn(tx, model, id));
    },

    async rotateRefreshToken(usedId, successor, repeatableFor) {
      const { grantId, accountId, clientId } = successor.payload;
      const fresh = await rowOf({ ...successor, model: refreshToken });
      const link =
        repeatableFor > 0 &&
        (await rowOf({
          model: refreshSuccessor,
          id: usedId,
          payload: { grantId, accountId, clientId, successor: successor.id },
          expiresAt: new Date(Date.now() + repeatableFor * 1000),
        }));
      return database.write("authorization_server_record.rotate_refresh_token", async (tx) => {
        if (!(await consumeIn(tx, refreshToken, usedId))) return false;
        // The client has used its token, so its issuance must not be repeated any more.
        await tx
          .deleteFrom(table)
          .where("model", "=", refreshSuccessor)
          .where("grant_id", "=", fresh.values.grant_id)
          .execute();
        for (const row of [fresh, link])
          if (row)
            await tx
              .insertInto(table)
              .values({ ...row.key, ...row.values })
              .execute();
        return true;
      });
    },

    async successorOf(usedId, audit) {
      const link = await findBy(refreshSuccessor, "id_name", usedId);
      const { successor: id, grantId } = link?.payload ?? {};
      if (typeof id !== "string" || typeof grantId !== "string") return undefined;
      await macs.ready();
      return database.write("authorization_server_record.successor_of", async (tx) => {
        // Locked, so that it is returned before it is used, or not at all.
        const rows = await tx
          .selectFrom(table)
          .selectAll()
          .where((e) =>
            e.or([
              e.and([e("model", "=", refreshToken), e("id_name", "=", hashedHandle(id))]),
              e.and([e("model", "=", "Grant"), e("id_name", "=", hashedHandle(grantId))]),
              e.and([e("model", "=", refreshSuccessor), e("id_name", "=", hashedHandle(usedId))]),
            ]),
          )
          .where("consumed_at", "is", null)
          .where(unexpired)
          .orderBy("model")
          .orderBy("id_name")
          .forShare()
          .execute();
        if (rows.filter((row) => macs.accepts(table, row)).length < 3) return undefined;
        if (audit) await writeAuditEvent(tx, audit);
        return id;
      });
    },

    forgetSuccessor: (usedId) => destroy(refreshSuccessor, usedId),
    destroy,

    revokeGrant(grantId, audit) {
      return database.write("authorization_server_record.revoke_grant", async (tx) => {
        const ended = await deleteGrants(tx, [grantId]);
        if (ended.size === 0) return false;
        await writeAuditEvent(tx, audit);
        return true;
      });
    },

    ...grantQueries(database, macs, decryptPayload, onUnreadable),
  };
}
