import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { auditedIn, type Database } from "./database.ts";
import type { Tables } from "./tables.ts";

/** Filter for audit events; all given conditions must hold. */
export interface AuditFilter {
  /** Only events with a greater id. */
  readonly after?: number;
  readonly since?: Date;
  readonly until?: Date;
  /** A renamed action is found by its new and its former name. */
  readonly action?: string;
  readonly userId?: string;
  readonly routeId?: string;
  /** Only events that no pending transaction can precede: an export that continues with `after` misses none. */
  readonly settled?: boolean;
  readonly limit: number;
}

/** An event as read; `action` may come from a newer version. */
export interface RecordedAuditEvent extends AuditFields {
  readonly id: number;
  readonly at: Date;
  readonly action: string;
  readonly detail?: AnyDetail;
}

/** Kinds of audit events: what happened to a token or a grant. */
export const auditActions = [
  "external_token.issued",
  "external_token.rejected",
  "external_token.revoked",
  "refresh_token.reused",
  "upstream_token.obtained",
  "upstream_token.first_used",
  "upstream_token.refreshed",
  "upstream_token.rejected",
  "upstream_token.revoked",
  "upstream_token.disconnected",
  "grant.created",
  "grant.revoked",
  "access.ended",
  "consent.denied",
  "person.signed_in",
  "person.signed_out",
  "person.rejected",
  "policy.denied",
  "signing_key.rotated",
  "encryption_key.rotated",
  "service_account.created",
  "service_account.revoked",
  "delegation.created",
  "delegation.ended",
  "granted_member.added",
  "granted_member.removed",
  "route.created",
  "route.changed",
  "route.deleted",
  "admin.signed_in",
  "admin.signed_out",
  "audit.pruned",
] as const;
export type AuditAction = (typeof auditActions)[number];

/** New and former name of each renamed action: rows of earlier versions, and of replicas that still run them, keep the former one. */
export const renamedActions = [
  ["external_token.rejected", "external_token.refused"],
  ["refresh_token.reused", "refresh_token.repeated"],
  ["upstream_token.rejected", "upstream_token.refused"],
  ["consent.denied", "consent.refused"],
  ["person.rejected", "person.refused"],
  ["policy.denied", "policy.refused"],
  ["delegation.created", "delegation.given"],
] as const satisfies readonly (readonly [AuditAction, string])[];

/** The names under which events of a kind are stored, by its new or its former name. */
function storedNames(action: string): readonly string[] {
  return renamedActions.find((names) => names.some((name) => name === action)) ?? [action];
}

/** What an event of any kind may be about. */
interface AuditFields {
  /** Who made an administrative change: `token:NAME`, `user:PROVIDER/SUBJECT` or `cli`. */
  readonly actor?: string;
  /** Whose token, grant or session it is about. */
  readonly userId?: string;
  readonly clientId?: string;
  readonly grantId?: string;
  readonly routeId?: string;
  readonly upstream?: string;
  readonly issuer?: string;
  readonly reason?: string;
  readonly requestId?: string;
}

/** The additional data of each kind of event that has some (docs/monitoring.md). Lists are separated by spaces. */
interface AuditDetails {
  readonly "external_token.issued": { readonly via?: string };
  readonly "grant.created": { readonly client_name?: string; readonly members?: string };
  /** Numbers by kind. */
  readonly "access.ended": Readonly<Record<string, number>>;
  readonly "external_token.rejected": { readonly rule?: string; readonly via?: string };
  readonly "policy.denied": { readonly rule?: string; readonly via?: string };
  readonly "signing_key.rotated": { readonly purpose: string; readonly kid: string };
  /** Rewritten rows by table; the id of the newest key. */
  readonly "encryption_key.rotated": AnyDetail & { readonly newest: string };
  readonly "service_account.created": {
    readonly routes: string;
    readonly expires: string;
    readonly owner?: string;
    readonly members?: string;
  };
  readonly "delegation.created": { readonly account: string };
  readonly "delegation.ended": { readonly account: string };
  readonly "route.created": { readonly url: string };
  readonly "route.changed": { readonly changed: string; readonly url: string };
  readonly "route.deleted": { readonly url: string };
  readonly "admin.signed_in": { readonly role: string };
  readonly "audit.pruned": { readonly before: string; readonly first_batch: number };
}
type AnyDetail = Readonly<Record<string, string | number | boolean>>;

type Detailed = {
  readonly [A in keyof AuditDetails]: { readonly action: A; readonly detail?: AuditDetails[A] };
}[keyof AuditDetails];

/** One entry of the audit trail. Contains ids and reasons, never a token, secret or code. */
export type AuditEvent = AuditFields &
  ({ readonly action: AuditAction; readonly detail?: undefined } | Detailed);

/** Why a change was made, and by whom. */
export type AuditCause = Pick<AuditFields, "reason" | "actor">;

/** Appends `event` to the audit trail, in the transaction of the change it records. */
export function writeAuditEvent(tx: Transaction<Tables>, event: AuditEvent): Promise<void> {
  return writeAuditEvents(tx, [event]);
}

/** The same for several events, at most a few thousand, in one statement. */
export async function writeAuditEvents(
  tx: Transaction<Tables>,
  events: readonly AuditEvent[],
): Promise<void> {
  if (events.length === 0) return;
  await tx.insertInto("audit_event").values(events.map(valuesOf)).execute();
  for (const event of events) auditedIn(tx, event);
}

function valuesOf(event: AuditEvent) {
  return {
    // Not when the transaction began: `at` is about the time when the id is assigned.
    at: sql<Date>`clock_timestamp()`,
    action: event.action,
    actor: event.actor ?? null,
    user_id: event.userId ?? null,
    client_id: event.clientId ?? null,
    grant_id: event.grantId ?? null,
    route_id: event.routeId ?? null,
    upstream: event.upstream ?? null,
    issuer: event.issuer ?? null,
    reason: event.reason ?? null,
    request_id: event.requestId ?? null,
    detail: event.detail === undefined ? null : JSON.stringify(event.detail, storable),
  };
}

/** Postgres' jsonb has neither NUL nor half of a surrogate pair: what others wrote must not prevent an event. */
function storable(_name: string, value: unknown): unknown {
  return typeof value === "string" ? value.toWellFormed().replaceAll("\0", "\ufffd") : value;
}

const textColumns = [
  "action",
  "actor",
  "user_id",
  "client_id",
  "grant_id",
  "route_id",
  "upstream",
  "issuer",
  "reason",
  "request_id",
] as const;

/** For `insert into audit_event (names) select of(event) from ...`: an event in the statement of the change that it records. */
export const auditColumns = {
  names: ["at", ...textColumns, "detail"],
  of(event: AuditEvent) {
    const { at, detail, ...values } = valuesOf(event);
    return [
      at.as("at"),
      ...textColumns.map((name) => sql<string | null>`${values[name]}::text`.as(name)),
      sql`${detail}::jsonb`.as("detail"),
    ];
  },
} as const;

/** How many events one statement looks at: a filter that few events match must not make it scan the whole trail. */
const lookedAt = 20_000;

/** At most `limit` audit events in the order of their ids: pass the last id as `after` for more. */
export async function readAuditEvents(
  database: Database,
  filter: AuditFilter,
): Promise<RecordedAuditEvent[]> {
  const found: RecordedAuditEvent[] = [];
  let { after } = filter;
  const first = filter.since && (await firstIdSince(database, filter.since));
  if (first === null) return [];
  if (first !== undefined) after = Math.max(after ?? 0, first - 1);
  for (;;) {
    const limit = filter.limit - found.length;
    const { rows, last } = await database.read("audit_event.list", (db) =>
      readStretch(db, { ...filter, after, limit }),
    );
    found.push(...rows.map(recorded));
    if (last === null || found.length === filter.limit) return found;
    after = last;
  }
}

/** The smallest id of the events since this time; null if there are none. */
function firstIdSince(database: Database, since: Date): Promise<number | null> {
  return database.read("audit_event.first_since", async (db) => {
    // An event that is so much later has a greater id than the first one: its id is assigned when it is written. `offset` keeps the
    // planner from looking for the smallest id in the order of the ids.
    const { rows } = await sql<{ id: number | null }>`
      select min(id) as id from (
        select id from audit_event
        where at >= ${since} and at <= interval '15 seconds' + (
          select at from audit_event where at >= ${since} order by at limit 1)
        offset 0) as earliest`.execute(db);
    return rows[0]?.id ?? null;
  });
}

/** The events that match among the next ones by id; `last`: id of the last one looked at, null if there are no more. */
async function readStretch(db: Kysely<Tables>, filter: AuditFilter) {
  const next = db.selectFrom("audit_event").select("id").orderBy("id").limit(lookedAt);
  const stretch = filter.after === undefined ? next : next.where("id", ">", filter.after);
  const { last, looked } = await db
    .selectFrom(stretch.as("stretch"))
    .select([sql<number | null>`max(id)`.as("last"), sql<number>`count(*)::int`.as("looked")])
    .executeTakeFirstOrThrow();
  if (last === null) return { rows: [], last };
  let query = db
    .selectFrom("audit_event")
    .selectAll()
    .where("id", "<=", last)
    .orderBy("id")
    .limit(filter.limit);
  if (filter.after !== undefined) query = query.where("id", ">", filter.after);
  if (filter.since !== undefined) query = query.where("at", ">=", filter.since);
  if (filter.until !== undefined) query = query.where("at", "<", filter.until);
  if (filter.action !== undefined) query = query.where("action", "in", storedNames(filter.action));
  if (filter.userId !== undefined) query = query.where("user_id", "=", filter.userId);
  if (filter.routeId !== undefined) query = query.where("route_id", "=", filter.routeId);
  // Ids are assigned when a transaction writes, not when it commits; no transaction lasts this long.
  if (filter.settled) query = query.where("at", "<", sql<Date>`now() - interval '15 seconds'`);
  return { rows: await query.execute(), last: looked < lookedAt ? null : last };
}

/** The events with these ids that were written within `span`, in the order of their ids. */
export async function readAuditEventsById(
  database: Database,
  ids: readonly number[],
  span: { readonly from: Date; readonly to: Date },
): Promise<RecordedAuditEvent[]> {
  const rows = await database.read("audit_event.by_id", (db) =>
    db
      .selectFrom("audit_event")
      .selectAll()
      .where(sql<boolean>`id = any(${ids}::bigint[])`)
      // So that only their partition is read.
      .where("at", ">=", span.from)
      // Times here have milliseconds, those of the database microseconds.
      .where("at", "<", new Date(span.to.getTime() + 1))
      .orderBy("id")
      .execute(),
  );
  return rows.map(recorded);
}

const recorded = (row: Selectable<Tables["audit_event"]>): RecordedAuditEvent => ({
  id: row.id,
  at: row.at,
  action: row.action,
  actor: row.actor ?? undefined,
  userId: row.user_id ?? undefined,
  clientId: row.client_id ?? undefined,
  grantId: row.grant_id ?? undefined,
  routeId: row.route_id ?? undefined,
  upstream: row.upstream ?? undefined,
  issuer: row.issuer ?? undefined,
  reason: row.reason ?? undefined,
  requestId: row.request_id ?? undefined,
  detail: row.detail ?? undefined,
});

/** An audit event in export format (docs/monitoring.md). Unknown values are omitted. */
export function auditRecord(event: RecordedAuditEvent): Readonly<Record<string, unknown>> {
  return {
    id: event.id,
    at: event.at.toISOString(),
    action: event.action,
    actor: event.actor,
    user_id: event.userId,
    client_id: event.clientId,
    grant_id: event.grantId,
    route_id: event.routeId,
    upstream: event.upstream,
    issuer: event.issuer,
    reason: event.reason,
    request_id: event.requestId,
    detail: event.detail,
  };
}
