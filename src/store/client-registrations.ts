import { randomUUID } from "node:crypto";
import { type Selectable, sql } from "kysely";
import type { Database } from "./database.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { StoreUnavailable } from "./errors.ts";
import { type Notifications, nextChange, notify } from "./notifications/notifications.ts";
import type { RowMacs } from "./row-macs.ts";
import type { Tables } from "./tables.ts";

/** Client credentials issued by an authorization server (RFC 7591), never sent to another issuer. */
export interface ClientRegistration {
  readonly issuer: string;
  readonly redirectUri: string;
  readonly clientId: string;
  readonly clientSecret?: string;
  readonly secretExpiresAt?: Date;
  readonly authMethod: string;
  readonly metadata: Record<string, unknown>;
}

export interface ClientRegistrations {
  /** @param alsoEnded include clients with an expired secret: it can still be rotated, or the server's clock may be behind; default false */
  find(issuer: string, redirectUri: string, alsoEnded?: boolean): Promise<ClientRegistration | undefined>;
  /**
   * Runs `register` at most once per (issuer, redirect URI) across replicas: waits for a registration on another replica and returns
   * it. No transaction stays open in the meantime.
   *
   * @param insteadOf an unusable registration that is kept until a new one exists. Some servers return the same client id again:
   * `registeredAt` of the caller's `metadata` distinguishes the two.
   */
  getOrRegister(
    issuer: string,
    redirectUri: string,
    register: () => Promise<ClientRegistration>,
    insteadOf?: { readonly clientId: string; readonly registeredAt?: number },
  ): Promise<ClientRegistration>;
  /**
   * Runs `rotate` on this client's registration under the same lease, and stores the result. Undefined: another replica holds the
   * lease, or the client is gone.
   */
  rotateSecret(
    issuer: string,
    redirectUri: string,
    clientId: string,
    rotate: (current: ClientRegistration) => Promise<ClientRegistration>,
  ): Promise<ClientRegistration | undefined>;
  /** Changes the registration of exactly this client, unless it changes concurrently. */
  update(
    issuer: string,
    redirectUri: string,
    clientId: string,
    change: (current: ClientRegistration) => ClientRegistration,
  ): Promise<void>;
  /** Deletes exactly this client id (the server no longer knows it). */
  delete(issuer: string, redirectUri: string, clientId: string): Promise<void>;
}

type EncryptedPart = Omit<ClientRegistration, "issuer" | "redirectUri" | "secretExpiresAt">;

const table = "client_registration";
const now = sql<Date>`now()`;
/** A notification usually ends the wait; polling covers a listener that is down and a replica that died while registering. */
const pollMs = 250;

/**
 * Registrations at authorization servers, one per (issuer, redirect URI), created under a lease.
 * @param options.leaseMs longer than a registration may take; afterwards another replica tries
 */
export function clientRegistrations(
  database: Database,
  { encrypt, decrypt }: Encryption,
  macs: RowMacs,
  notifications: Pick<Notifications, "subscribe">,
  options: { leaseMs: number },
): ClientRegistrations {
  const { clock } = database;

  async function decryptRow(
    row: Selectable<Tables["client_registration"]>,
  ): Promise<ClientRegistration | undefined> {
    if (row.sealed === null) return undefined;
    const { issuer, redirect_uri: redirectUri } = row;
    return {
      ...(await decrypt<EncryptedPart>(table, [issuer, redirectUri], row.sealed)),
      issuer,
      redirectUri,
      ...(row.secret_expires_at && { secretExpiresAt: clock.fromDatabase(row.secret_expires_at) }),
    };
  }

  async function findRow(issuer: string, redirectUri: string, alsoEnded = false) {
    const found = await database.read("client_registration.find", (db) =>
      db
        .selectFrom(table)
        .selectAll()
        .where("issuer", "=", issuer)
        .where("redirect_uri", "=", redirectUri)
        .$if(!alsoEnded, (all) =>
          all.where((e) => e.or([e("secret_expires_at", "is", null), e("secret_expires_at", ">", now)])),
        )
        .executeTakeFirst(),
    );
    // Without a client, the row is only a lease.
    return found?.client_id == null ? undefined : found;
  }

  async function find(issuer: string, redirectUri: string, alsoEnded?: boolean) {
    const row = await macs.find(table, await findRow(issuer, redirectUri, alsoEnded));
    return row && decryptRow(row);
  }

  /** A forged row counts as absent: it must not prevent registration. */
  async function findOrClear(issuer: string, redirectUri: string) {
    const found = await findRow(issuer, redirectUri);
    if (!found) return undefined;
    if (!(await macs.isForged(table, found))) {
      const registration = await decryptRow(found);
      return registration && { registration, sealed: found.sealed };
    }
    await database.write("client_registration.clear", (tx) =>
      tx
        .deleteFrom(table)
        .where("issuer", "=", issuer)
        .where("redirect_uri", "=", redirectUri)
        .where("client_id", "=", found.client_id)
        .where("mac", "is not distinct from", found.mac)
        .execute(),
    );
    return undefined;
  }

  /** True for one of all callers, while there is no usable registration. */
  async function takeLease(issuer: string, redirectUri: string, owner: string): Promise<boolean> {
    const lease = {
      lease_owner: owner,
      lease_until: sql<Date>`now() + ${options.leaseMs} * interval '1 millisecond'`,
    };
    const rows = await database.write("client_registration.take_lease", (tx) =>
      tx
        .insertInto(table)
        .values({ issuer, redirect_uri: redirectUri, ...lease })
        .onConflict((conflict) =>
          conflict
            .columns(["issuer", "redirect_uri"])
            .doUpdateSet(lease)
            .where((e) =>
              e.and([
                e.or([
                  e("client_registration.client_id", "is", null),
                  e("client_registration.secret_expires_at", "<=", now),
                ]),
                e.or([
                  e("client_registration.lease_until", "is", null),
                  e("client_registration.lease_until", "<=", now),
                ]),
              ]),
            ),
        )
        .returning("issuer")
        .execute(),
    );
    return rows.length === 1;
  }

  /**
   * True for one of all callers that want to rotate this client's secret or replace the client.
   * @param sealed the ciphertext as read: another registration may have the same client id
   */
  async function takeLeaseOf(
    issuer: string,
    redirectUri: string,
    { clientId, sealed }: { readonly clientId: string; readonly sealed?: string | null },
    owner: string,
  ) {
    const rows = await database.write("client_registration.take_renewal_lease", (tx) =>
      tx
        .updateTable(table)
        .set({
          lease_owner: owner,
          lease_until: sql<Date>`now() + ${options.leaseMs} * interval '1 millisecond'`,
        })
        .where("issuer", "=", issuer)
        .where("redirect_uri", "=", redirectUri)
        .where("client_id", "=", clientId)
        .$if(sealed !== undefined, (all) => all.where("sealed", "is not distinct from", sealed ?? null))
        .where((e) => e.or([e("lease_until", "is", null), e("lease_until", "<=", now)]))
        .returning("issuer")
        .execute(),
    );
    return rows.length === 1;
  }

  /** All columns of a registration, encrypted and with their MAC. */
  async function valuesOf(registration: ClientRegistration) {
    const { issuer, redirectUri, secretExpiresAt, ...part } = registration;
    const encryptedPart: EncryptedPart = part;
    const sealed = await encrypt(table, [issuer, redirectUri], encryptedPart);
    const clear = {
      client_id: registration.clientId,
      secret_expires_at: secretExpiresAt === undefined ? null : clock.toDatabase(secretExpiresAt),
    };
    await macs.ready();
    const mac = macs.sign(table, { issuer, redirect_uri: redirectUri, ...clear });
    return { ...clear, ...sealed, mac };
  }

  /** Stores a registration if we still hold the lease. */
  async function store(registration: ClientRegistration, owner: string): Promise<boolean> {
    const { issuer, redirectUri } = registration;
    const values = await valuesOf(registration);
    return database.write("client_registration.store", async (tx) => {
      const rows = await tx
        .updateTable(table)
        .set({
          ...values,
          lease_owner: null,
          lease_until: null,
          created_at: now,
        })
        .where("issuer", "=", issuer)
        .where("redirect_uri", "=", redirectUri)
        .where("lease_owner", "=", owner)
        .returning("issuer")
        .execute();
      if (rows.length === 0) return false;
      await notify(tx, { table: "client_registration", issuer });
      return true;
    });
  }

  /** After a failure: the next caller does not have to wait for the lease to end. */
  async function releaseLease(issuer: string, redirectUri: string, owner: string): Promise<void> {
    await database.write("client_registration.release_lease", async (tx) => {
      await tx
        .updateTable(table)
        .set({ lease_owner: null, lease_until: null })
        .where("issuer", "=", issuer)
        .where("redirect_uri", "=", redirectUri)
        .where("lease_owner", "=", owner)
        .execute();
      await notify(tx, { table: "client_registration", issuer });
    });
  }

  return {
    find,
    async getOrRegister(issuer, redirectUri, register, insteadOf) {
      const owner = randomUUID();
      const isWanted = ({ clientId, metadata }: ClientRegistration) =>
        clientId !== insteadOf?.clientId || metadata.registeredAt !== insteadOf.registeredAt;
      const stopAt = performance.now() + 2 * options.leaseMs;
      do {
        // Subscribes before the read, so that a registration stored right after it is not missed.
        const change = nextChange(
          notifications,
          (one) => one.table === "client_registration" && one.issuer === issuer,
          pollMs,
        );
        try {
          const present = await findOrClear(issuer, redirectUri);
          if (present && isWanted(present.registration)) return present.registration;
          const isOurs = await (present
            ? takeLeaseOf(
                issuer,
                redirectUri,
                { clientId: present.registration.clientId, sealed: present.sealed },
                owner,
              )
            : takeLease(issuer, redirectUri, owner));
          if (!isOurs) {
            await change.arrived;
            continue;
          }
        } finally {
          change.stop();
        }
        let made: ClientRegistration;
        try {
          made = { ...(await register()), issuer, redirectUri };
        } catch (error) {
          await releaseLease(issuer, redirectUri, owner).catch(() => {});
          throw error;
        }
        if (await store(made, owner)) return made;
      } while (performance.now() < stopAt);
      // Our lease ran out; the replica that took over has stored its registration.
      const present = await find(issuer, redirectUri);
      if (present && isWanted(present)) return present;
      throw new StoreUnavailable(
        "client_registration.wait",
        new Error("a registration on another replica does not finish"),
      );
    },
    async rotateSecret(issuer, redirectUri, clientId, rotate) {
      const owner = randomUUID();
      if (!(await takeLeaseOf(issuer, redirectUri, { clientId }, owner))) return undefined;
      try {
        const current = await find(issuer, redirectUri, true);
        if (current?.clientId !== clientId) return undefined;
        const made = { ...(await rotate(current)), issuer, redirectUri, clientId };
        return (await store(made, owner)) ? made : undefined;
      } finally {
        // Does nothing after `store`, which clears the lease.
        await releaseLease(issuer, redirectUri, owner).catch(() => {});
      }
    },
    async update(issuer, redirectUri, clientId, change) {
      const row = await macs.find(table, await findRow(issuer, redirectUri, true));
      const current = row && (await decryptRow(row));
      if (!row || current?.clientId !== clientId) return;
      const values = await valuesOf({ ...change(current), issuer, redirectUri, clientId });
      await database.write("client_registration.update", async (tx) => {
        const rows = await tx
          .updateTable(table)
          .set(values)
          .where("issuer", "=", issuer)
          .where("redirect_uri", "=", redirectUri)
          .where("client_id", "=", clientId)
          .where("sealed", "=", row.sealed)
          .returning("issuer")
          .execute();
        if (rows.length === 1) await notify(tx, { table: "client_registration", issuer });
      });
    },
    async delete(issuer, redirectUri, clientId) {
      await database.write("client_registration.delete", async (tx) => {
        const rows = await tx
          .deleteFrom(table)
          .where("issuer", "=", issuer)
          .where("redirect_uri", "=", redirectUri)
          .where("client_id", "=", clientId)
          .returning("issuer")
          .execute();
        if (rows.length === 1) await notify(tx, { table: "client_registration", issuer });
      });
    },
  };
}
