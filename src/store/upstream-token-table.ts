import { type Selectable, sql, type Transaction } from "kysely";
import type { ConnectionKey } from "../model/connection.ts";
import { type AuditEvent, writeAuditEvent } from "./audit-events.ts";
import type { Database } from "./database.ts";
import { endDelegations } from "./delegations.ts";
import { disconnectsOf, lockDisconnects, recordDisconnect } from "./disconnects.ts";
import { dueTokens } from "./due-tokens.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { DecryptionFailed } from "./errors.ts";
import type { Indexes } from "./indexes.ts";
import { connectionChange, notify } from "./notifications/notifications.ts";
import { requiredScopesOf, requiredScopesTable } from "./required-scopes.ts";
import type { RowMacs } from "./row-macs.ts";
import { hasDisconnectedOrSignedOut } from "./save-token.ts";
import type { Tables, UpstreamTokenTable } from "./tables.ts";
import { tokenRefreshes } from "./token-refreshes.ts";
import { tokenUsage } from "./token-usage.ts";
import {
  type NewUpstreamToken,
  type PutBasis,
  type StoredUpstreamTokens,
  type UpstreamToken,
  upstreamTokenQueries,
} from "./upstream-tokens.ts";

/** All columns that queries do not need are encrypted: by changing a token endpoint, an attacker could receive refresh tokens. */
type EncryptedPart = Omit<NewUpstreamToken, keyof ConnectionKey | "expiresAt" | "refreshExpiresAt">;

const table = "upstream_token";
const primaryKey = (key: ConnectionKey) => [key.userId, key.routeId, key.upstream];
const nextVersion = sql<number>`nextval('upstream_token_version')`;
const now = sql<Date>`now()`;

/** @param deps.onUnreadable called if a deleted row could not be decrypted */
export function upstreamTokens(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  deps: {
    readonly indexes: Pick<Indexes, "built">;
    readonly onUnreadable: (key: ConnectionKey, error: DecryptionFailed) => void;
  },
): StoredUpstreamTokens {
  const { clock } = database;

  async function encryptToken(token: NewUpstreamToken) {
    const { userId, routeId, upstream, expiresAt, refreshExpiresAt, ...part } = token;
    // Belongs to the replaced version.
    const { rejections: _, ...encryptedPart }: EncryptedPart & Pick<UpstreamToken, "rejections"> = part;
    const clear = {
      expires_at: expiresAt === undefined ? null : clock.toDatabase(expiresAt),
      refresh_expires_at: refreshExpiresAt === undefined ? null : clock.toDatabase(refreshExpiresAt),
      refreshable: token.refreshToken !== undefined,
    };
    await macs.ready();
    return {
      ...(await encrypt(table, primaryKey(token), encryptedPart)),
      ...clear,
      mac: macs.sign(table, { user_id: userId, route_id: routeId, upstream, ...clear }),
      lease_owner: null,
      lease_until: null,
      dormant_at: null,
      version: nextVersion,
      updated_at: now,
    };
  }

  async function decryptToken(row: Selectable<UpstreamTokenTable>): Promise<UpstreamToken> {
    const key = { userId: row.user_id, routeId: row.route_id, upstream: row.upstream };
    const part = await decrypt<EncryptedPart>(table, primaryKey(key), row.sealed);
    return {
      ...part,
      ...key,
      version: row.version,
      ...(row.expires_at && { expiresAt: clock.fromDatabase(row.expires_at) }),
      ...(row.refresh_expires_at && { refreshExpiresAt: clock.fromDatabase(row.refresh_expires_at) }),
      connectedAt: clock.fromDatabase(row.connected_at),
      updatedAt: clock.fromDatabase(row.updated_at),
      ...(row.last_used_at && { lastUsedAt: clock.fromDatabase(row.last_used_at) }),
      ...rejectionsOf(row),
    };
  }

  function rejectionsOf(row: Selectable<UpstreamTokenTable>): Pick<UpstreamToken, "rejections"> {
    const { version, refused_version: rejected, refused_count: count, refused_since: since } = row;
    if (rejected !== version || count === null || since === null) return {};
    return { rejections: { count, since: clock.fromDatabase(since) } };
  }

  function put(token: NewUpstreamToken, audit: AuditEvent): Promise<number>;
  function put(
    token: NewUpstreamToken,
    audit: AuditEvent,
    basis: PutBasis | undefined,
  ): Promise<number | undefined>;
  async function put(token: NewUpstreamToken, audit: AuditEvent, basis?: PutBasis) {
    const values = await encryptToken(token);
    return database.write("upstream_token.put", async (tx) => {
      if (basis && !(await isUnchanged(tx, token, basis))) return undefined;
      const { version } = await tx
        .insertInto(table)
        .values({
          user_id: token.userId,
          route_id: token.routeId,
          upstream: token.upstream,
          ...values,
          connected_at: now,
        })
        .onConflict((conflict) =>
          conflict
            .columns(["user_id", "route_id", "upstream"])
            .doUpdateSet({ ...values, connected_at: now, last_used_at: null, refresh_final_at: null }),
        )
        .returning("version")
        .executeTakeFirstOrThrow();
      await tx
        .deleteFrom("upstream_demand")
        .where("user_id", "=", token.userId)
        .where("route_id", "=", token.routeId)
        .where("upstream", "=", token.upstream)
        .execute();
      await writeAuditEvent(tx, audit);
      await notify(tx, { ...connectionChange(token), version });
      return version;
    });
  }

  async function isUnchanged(tx: Transaction<Tables>, key: ConnectionKey, basis: PutBasis): Promise<boolean> {
    await lockDisconnects(tx, key);
    const disconnects = await disconnectsOf(tx, key);
    const row = await tx
      .selectFrom(table)
      .select("version")
      .where("user_id", "=", key.userId)
      .where("route_id", "=", key.routeId)
      .where("upstream", "=", key.upstream)
      .forUpdate()
      .executeTakeFirst();
    if (basis.version !== "any" && row?.version !== basis.version) return false;
    const person = await tx
      .selectFrom("sign_in_session")
      .select("user_id")
      .where("user_id", "=", key.userId)
      .executeTakeFirst();
    return !hasDisconnectedOrSignedOut(basis, { disconnects, signedIn: person !== undefined });
  }

  return {
    ...requiredScopesTable(database, macs),

    async find(key) {
      const found = await database.read("upstream_token.find", (db) =>
        db
          .selectFrom(table)
          .selectAll()
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .executeTakeFirst(),
      );
      const row = await macs.find(table, found);
      return row && decryptToken(row);
    },

    async findWithRequiredScopes(key) {
      const found = await database.read("upstream_token.find_with_required_scopes", (db) =>
        db
          .selectFrom(sql`(select)`.as("asked"))
          .leftJoin("upstream_token as t", (join) =>
            join.on((e) =>
              e.and({ "t.user_id": key.userId, "t.route_id": key.routeId, "t.upstream": key.upstream }),
            ),
          )
          .leftJoin("upstream_demand as d", (join) =>
            join.on((e) =>
              e.and({ "d.user_id": key.userId, "d.route_id": key.routeId, "d.upstream": key.upstream }),
            ),
          )
          .selectAll("t")
          .select([
            "d.scopes as required_scopes",
            "d.resource_metadata as required_metadata",
            "d.demanded_at as required_at",
            "d.mac as required_mac",
          ])
          .executeTakeFirstOrThrow(),
      );
      const { required_scopes, required_metadata, required_at, required_mac, ...columns } = found;
      const row =
        columns.user_id !== null && (await macs.find(table, columns as Selectable<UpstreamTokenTable>));
      const [token, requiredScopes] = await Promise.all([
        row ? decryptToken(row) : undefined,
        required_scopes !== null && required_at !== null
          ? requiredScopesOf(macs, {
              user_id: key.userId,
              route_id: key.routeId,
              upstream: key.upstream,
              scopes: required_scopes,
              resource_metadata: required_metadata,
              demanded_at: required_at,
              mac: required_mac,
            })
          : undefined,
      ]);
      return { token, requiredScopes };
    },

    put,

    disconnects: (key) => database.read("upstream_token.disconnects", (db) => disconnectsOf(db, key)),

    ...tokenRefreshes(database, { columnsOf: encryptToken, rejectionsOf }),

    deleteVersion(key, version, audit) {
      return database.write("upstream_token.delete_version", async (tx) => {
        const rows = await tx
          .deleteFrom(table)
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .where("version", "=", version)
          .returning("version")
          .execute();
        if (rows.length === 0) return false;
        await writeAuditEvent(tx, audit);
        await notify(tx, connectionChange(key));
        return true;
      });
    },

    async delete(key, audit, disconnected) {
      await macs.ready();
      const row = await database.write("upstream_token.delete", async (tx) => {
        if (disconnected) await recordDisconnect(tx, key, disconnected);
        const deleted = await tx
          .deleteFrom(table)
          .where("user_id", "=", key.userId)
          .where("route_id", "=", key.routeId)
          .where("upstream", "=", key.upstream)
          .returningAll()
          .executeTakeFirst();
        // Also without a token: ended delegations must not return with the next consent.
        await endDelegations(tx, macs, { ownerId: key.userId, ...key }, audit.reason ?? "disconnected");
        if (deleted === undefined) return undefined;
        await writeAuditEvent(tx, audit);
        await notify(tx, connectionChange(key));
        return deleted;
      });
      if (row === undefined || !(await macs.find(table, row))) return undefined;
      try {
        return await decryptToken(row);
      } catch (error) {
        if (!(error instanceof DecryptionFailed)) throw error;
        deps.onUnreadable(key, error);
        return undefined;
      }
    },

    async listForUser(userId) {
      const rows = await database.read("upstream_token.list", (db) =>
        db.selectFrom(table).selectAll().where("user_id", "=", userId).orderBy("route_id").execute(),
      );
      return Promise.all((await macs.filter(table, rows)).map(decryptToken));
    },

    ...tokenUsage(database),
    ...upstreamTokenQueries(database),
    ...dueTokens(database, deps.indexes),
  };
}
