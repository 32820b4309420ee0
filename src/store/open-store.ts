import { sql } from "kysely";
import type { Logger } from "pino";
import { withDeadline } from "../util/deadline.ts";
import { systemReason } from "../util/unusable-setting.ts";
import { adminSessions } from "./admin-sessions.ts";
import { aggregateSessions } from "./aggregate-sessions.ts";
import { auditTrail } from "./audit-batches.ts";
import { type AuditEvent, readAuditEvents, writeAuditEvent } from "./audit-events.ts";
import { logAuditEvent } from "./audit-lines.ts";
import { boundFirstPartition } from "./audit-partitions.ts";
import { authorizationServerRecords } from "./authorization-server-record-table.ts";
import { backgroundWork } from "./background-work.ts";
import { browserSessions } from "./browser-sessions.ts";
import { clientRegistrations } from "./client-registrations.ts";
import { createDatabase, type Database, type InSpan, type StoreMetrics } from "./database.ts";
import { delegations } from "./delegations.ts";
import { elicitationSessions } from "./elicitation-sessions.ts";
import { listenEmbedded, openEmbeddedDatabase } from "./embedded/embedded-database.ts";
import { requireSpace } from "./embedded/pglite.ts";
import { encryption, type KeyEncryptionKeys } from "./encryption/encryption.ts";
import { rotateEncryptionKeys } from "./encryption/rotate.ts";
import { endAccess } from "./end-access.ts";
import { endAccessOfPerson } from "./end-access-of-person.ts";
import { isTlsFailure, isUnavailability, StoreMisconfigured, StoreUnavailable } from "./errors.ts";
import { removeExpired } from "./expired-rows.ts";
import { grantedMembers } from "./granted-members.ts";
import { createIndexes, type IndexDefinitions, type Indexes, knownIndexes } from "./indexes.ts";
import { clientIssuers, routeIssuers } from "./issuers.ts";
import { isNewer, migrateDatabase, migrationIndexes } from "./migrate.ts";
import type { Listener } from "./notifications/notifications.ts";
import { usedValues } from "./one-time-values.ts";
import { orphanedUpstreams } from "./orphaned-upstreams.ts";
import { pendingAuthorizations } from "./pending-authorizations.ts";
import { serverIndexes } from "./postgres/build-indexes.ts";
import { listenPostgres } from "./postgres/listener.ts";
import { openPostgres, type PostgresTls } from "./postgres/pool.ts";
import { replicaMessages } from "./replica-messages.ts";
import { replicas } from "./replicas.ts";
import { rowMacs } from "./row-macs.ts";
import { type SignInSession, signInSessions } from "./sign-in-sessions.ts";
import { signingKeys } from "./signing-keys.ts";
import type { Store } from "./store.ts";
import { storedRoutes } from "./stored-routes.ts";
import { upstreamTokens } from "./upstream-token-table.ts";

/** The longest that an operation takes before the store gives it up, unless `StoreOptions` say otherwise, ms. */
export const operationTimeoutMs = 3_000;

export interface StoreOptions extends PostgresTls {
  /** Postgres 14 or newer; absent: the embedded database in `dir`. */
  readonly url?: string;
  /** URL that supports LISTEN, if `url` is a transaction-mode pooler. */
  readonly listenUrl?: string;
  readonly dir: string;
  readonly keys: KeyEncryptionKeys;
  readonly logger: Logger;
  readonly metrics?: StoreMetrics;
  readonly inSpan?: InSpan;
  /** Timeout of one operation, ms (`operationTimeoutMs`). */
  readonly operationTimeoutMs?: number;
  /** Connections for operations (10); two more are used for listening and its heartbeats. */
  readonly poolSize?: number;
  /** Timeout of a client registration, after which another replica tries, ms (15000). */
  readonly registrationLeaseMs?: number;
  /** Indexes to build; default: the ones that the migrations export. */
  readonly indexes?: IndexDefinitions;
  /** Migrates a person's record that was written by a version without e-mail verification; default: unchanged. */
  readonly migratePerson?: (record: SignInSession) => SignInSession | undefined;
}

/**
 * Opens the database, migrates it if necessary, and listens for changes.
 * @throws StoreUnavailable if the database does not answer
 * @throws StoreMisconfigured if it cannot work as configured
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { url } = options;
  const wanted = options.indexes ?? (await migrationIndexes());
  const { database, listener, indexes } = await (url === undefined
    ? openEmbedded(options, wanted)
    : openServer(options, url, wanted));
  const { logger } = options;
  const encryptor = encryption(options.keys);
  const macs = rowMacs(database, encryptor, { ...options, healthy: () => listener.healthy() });
  let closing = false;
  listener.subscribe((change) => {
    if (change.table !== "signing_key" && change.table !== "everything") return;
    macs.reload().catch((error: unknown) => {
      // A command ends right after it has changed the keys.
      if (closing) return;
      logger.error({ err: error }, "cannot reload the row MAC key; the known key stays in use");
    });
  });
  const keys = signingKeys(database, encryptor, macs);
  const background = backgroundWork(database, { exclusive: url === undefined });
  return {
    upstreamTokens: upstreamTokens(database, encryptor, macs, {
      indexes,
      onUnreadable: (key, error) =>
        logger.warn({ err: error, route: key.routeId }, "removed a connection that cannot be decrypted"),
    }),
    orphanedUpstreams: orphanedUpstreams(database, indexes),
    pendingAuthorizations: pendingAuthorizations(database, encryptor, macs),
    clientRegistrations: clientRegistrations(database, encryptor, macs, listener, {
      leaseMs: options.registrationLeaseMs ?? 15_000,
    }),
    clientIssuers: clientIssuers(database, macs),
    routeIssuers: routeIssuers(database, macs),
    authorizationServerRecords: authorizationServerRecords(database, encryptor, macs, (error) =>
      logger.error(
        { err: error },
        "a grant cannot be decrypted: it is valid all the same, and can be revoked",
      ),
    ),
    delegations: delegations(database, macs),
    grantedMembers: grantedMembers(database, macs),
    browserSessions: browserSessions(database, macs),
    signInSessions: signInSessions(database, encryptor, macs, options.migratePerson),
    adminSessions: adminSessions(database, macs),
    replicas: replicas(database),
    signingKeys: keys,
    storedRoutes: storedRoutes(database, encryptor, macs, (id, error) =>
      logger.error(
        { err: error, route: id },
        "a stored route cannot be decrypted: its requests get 503; restore the key that it was written with (encryption.keys), or delete it and create it again",
      ),
    ),
    aggregateSessions: aggregateSessions(database, encryptor, macs, listener),
    replicaMessages: replicaMessages(database, encryptor, listener, (error) =>
      logger.error({ err: error }, "cannot receive a message of another replica"),
    ),
    usedValues: usedValues(database),
    elicitationSessions: elicitationSessions(database, macs),
    notifications: listener,
    backgroundWork: background,
    indexes,
    audit: (event) => database.write("audit_event.write", (tx) => writeAuditEvent(tx, event)),
    auditTrail: auditTrail(database),
    auditEvents: (filter) => readAuditEvents(database, filter),
    async ping() {
      await database.read("ping", (db) => db.selectNoFrom((e) => e.lit(1).as("one")).execute());
    },
    async removeExpired(now) {
      await macs.bind();
      return removeExpired(database, indexes, now, { logger });
    },
    endAccess: (key, reason, actor) => endAccess(database, { macs, keys }, key, { reason, actor }),
    endAccessOfPerson: (userId, audit) => endAccessOfPerson(database, macs, userId, audit),
    bindRows: () => macs.bind({ now: true }),
    rotateEncryptionKeys: (rotation) =>
      rotateEncryptionKeys(
        database,
        {
          ...{ encryption: encryptor, macs },
          onUnreadable: (table, error) =>
            logger.error({ err: error, table }, "cannot re-encrypt a row with the newest key"),
          onUnaudited: (error) =>
            logger.error({ err: error }, "the audit event of an unfinished key rotation was not written"),
        },
        rotation,
      ),
    async close() {
      closing = true;
      await background.close();
      await indexes.stop();
      await listener.close();
      await database.close();
    },
  };
}

interface Opened {
  readonly database: Database;
  readonly listener: Listener;
  readonly indexes: Indexes & { stop(): Promise<void> };
}

async function openEmbedded(options: StoreOptions, wanted: IndexDefinitions): Promise<Opened> {
  const { db, pglite, close } = await openEmbeddedDatabase(options.dir);
  try {
    await migrateDatabase(db);
    await createIndexes(db, wanted);
    await boundFirstPartition(db, new Date());
    const listener = await listenEmbedded(pglite, options);
    const timeoutMs = options.operationTimeoutMs ?? operationTimeoutMs;
    const { metrics, inSpan } = options;
    const beforeWrite = () => requireSpace(options.dir);
    const database = createDatabase(db, {
      timeoutMs,
      metrics,
      inSpan,
      beforeWrite,
      onAudited: logged(options),
      close,
    });
    const indexes = { ...knownIndexes(async () => []), buildInBackground() {}, async stop() {} };
    return { database, listener, indexes };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Only audit events are reported as audited. */
const logged =
  ({ logger }: StoreOptions) =>
  (event: object) =>
    logAuditEvent(logger, event as AuditEvent);

async function openServer(options: StoreOptions, url: string, wanted: IndexDefinitions): Promise<Opened> {
  const { logger, metrics, operationTimeoutMs: timeoutMs = operationTimeoutMs } = options;
  const tls = { tls: options.tls, tlsCa: options.tlsCa };
  await migrateServer(url, tls, timeoutMs, logger);
  const connection = { url, tls, timeoutMs, logger };
  const db = openPostgres({ ...connection, size: options.poolSize ?? 10, name: "envoy-mcp-auth" });
  const heartbeatDb = openPostgres({ ...connection, size: 1, name: "envoy-mcp-auth heartbeat" });
  const close = async () => {
    // A pool waits for the server to close the connection, which never happens on a dead network.
    await withDeadline(Promise.all([db.destroy(), heartbeatDb.destroy()]), timeoutMs, () => undefined);
  };
  const { inSpan } = options;
  const database = createDatabase(db, { timeoutMs, metrics, inSpan, onAudited: logged(options), close });
  const listenUrl = options.listenUrl ?? url;
  const listener = listenPostgres({
    listenUrl,
    tls,
    heartbeatDb,
    clock: database.clock,
    timeoutMs,
    logger,
    metrics,
  });
  const [state] = await Promise.all([listener.ready(timeoutMs), measureClock(database)]).catch(
    async (error) => {
      await listener.close();
      await close();
      throw error;
    },
  );
  if (state === "disconnected")
    logger.warn("cannot listen for changes yet; until then, every check asks the store");
  const indexes = serverIndexes(
    { url: listenUrl, tls, db, wanted },
    { database, logger, metrics, isNewer: () => isNewer(db) },
  );
  if (state !== "stalled") return { database, listener, indexes };
  await listener.close();
  await close();
  throw new StoreMisconfigured(
    "listen_unsupported",
    options.listenUrl === undefined
      ? "database.url (DATABASE_URL) accepts LISTEN but delivers no notifications, like a transaction-mode pooler; set database.listen_url (DATABASE_LISTEN_URL) to the server itself, or to a session-mode pooler"
      : "database.listen_url (DATABASE_LISTEN_URL) delivers no notifications sent through database.url; it must reach the same primary database, and not through a transaction-mode pooler",
  );
}

/** Measures the clock once before anything is stored; heartbeats then keep it up to date. */
async function measureClock({ clock, read }: Database): Promise<void> {
  const sentAt = Date.now();
  const { now } = await read("clock", (db) =>
    db.selectNoFrom(sql<Date>`clock_timestamp()`.as("now")).executeTakeFirstOrThrow(),
  );
  clock.measure(now, sentAt, Date.now());
}

async function migrateServer(
  url: string,
  tls: PostgresTls,
  connectTimeoutMs: number,
  logger: Logger,
): Promise<void> {
  const db = openPostgres({
    url,
    tls,
    timeoutMs: 60_000,
    connectTimeoutMs,
    size: 1,
    name: "envoy-mcp-auth migrate",
    logger,
  });
  try {
    const migrations = await migrateDatabase(db);
    if (migrations.length > 0) logger.info({ migrations }, "the database was migrated");
  } catch (error) {
    if (isTlsFailure(error))
      throw new StoreMisconfigured(
        "database_tls_invalid",
        `database.url (DATABASE_URL): TLS with the database failed (${error instanceof Error ? error.message : "unknown"}); database.tls_ca must name the CA of its certificate, the certificate must match the URL's host, and the server must have ssl = on`,
        error,
      );
    if (!isUnavailability(error)) throw error;
    const advice = `: ${systemReason(error)}; database.url (DATABASE_URL) must name a Postgres server that accepts its user and password`;
    throw new StoreUnavailable("migrate", error, advice);
  } finally {
    await db.destroy();
  }
}
