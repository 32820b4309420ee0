import type { Tables } from "./tables.ts";

export interface MacKey {
  readonly kid: string;
  readonly k: string;
  /** Unix ms. */
  readonly createdAt: number;
  readonly bound: boolean;
  /** The bound tables; absent in keys from before `route_issuer` was bound. */
  readonly tables?: readonly string[];
}

export function isMacKey(found: unknown): found is Omit<MacKey, "kid"> {
  if (typeof found !== "object" || found === null || !("k" in found) || !("createdAt" in found)) return false;
  return typeof found.k === "string" && typeof found.createdAt === "number";
}

export function tablesOf({ bound, tables = firstTables }: MacKey): BoundTable[] {
  return bound ? [...new Set([...tables.filter(isBoundTable), ...alwaysBound])] : [];
}

/** Tables that are newer than MACs: no version has written rows without one. */
const alwaysBound: readonly BoundTable[] = [
  "granted_member",
  "aggregate_session",
  "elicitation_session",
  "admin_code",
  "admin_session",
];

/** Tables whose rows carry a MAC. */
export type BoundTable = keyof typeof boundColumns;

/**
 * The columns that a row's MAC covers: the primary key first (`keys` columns), then every unencrypted column that affects a decision.
 * Not covered: leases, usage, rejection counts and housekeeping columns. Forging those only delays work, or causes a consent that
 * deleting the row would cause as well.
 */
export const boundColumns = {
  upstream_token: {
    keys: 3,
    columns: ["user_id", "route_id", "upstream", "expires_at", "refresh_expires_at", "refreshable"],
  },
  upstream_demand: {
    keys: 3,
    columns: ["user_id", "route_id", "upstream", "scopes", "resource_metadata", "demanded_at"],
  },
  pending_authorization: { keys: 2, columns: ["kind", "state_name", "user_id", "expires_at"] },
  client_registration: { keys: 2, columns: ["issuer", "redirect_uri", "client_id", "secret_expires_at"] },
  client_issuer: { keys: 3, columns: ["route_id", "upstream", "client_id", "issuer"] },
  // The id records the order of the routes, and the first takes precedence.
  route_issuer: { keys: 3, columns: ["route_id", "upstream", "issuer", "id", "accepted"] },
  authorization_server_record: {
    keys: 2,
    columns: [
      "model",
      "id_name",
      "grant_id",
      "uid_name",
      "user_code_name",
      "user_id",
      "client_id",
      "expires_at",
      "consumed_at",
    ],
  },
  delegation: {
    keys: 2,
    columns: ["grant_id", "route_id", "account", "owner_id", "upstream", "delegated_at", "expires_at"],
  },
  granted_member: { keys: 2, columns: ["grant_id", "route_id", "upstream", "expires_at"] },
  browser_session: {
    keys: 1,
    columns: ["id_name", "host", "user_id", "parent_name", "created_at", "expires_at"],
  },
  sign_in_session: { keys: 1, columns: ["user_id", "provider_id", "subject", "sid_name", "checked_at"] },
  signing_key: { keys: 1, columns: ["kid", "purpose", "created_at", "active_at", "expires_at"] },
  stored_route: { keys: 1, columns: ["id", "place", "version"] },
  aggregate_session: {
    keys: 1,
    columns: ["handle_name", "user_id", "grant_id", "route_id", "version", "expires_at"],
  },
  elicitation_session: { keys: 1, columns: ["session_name", "user_name", "expires_at"] },
  admin_code: { keys: 1, columns: ["code_name", "session_name", "user_id", "expires_at"] },
  admin_session: { keys: 1, columns: ["id_name", "session_name", "user_id", "created_at", "expires_at"] },
} as const satisfies { [T in keyof Tables]?: { keys: number; columns: readonly (keyof Tables[T])[] } };

/** The covered columns of a row, as read or as written. */
export type BoundRow<T extends BoundTable> = {
  readonly [C in (typeof boundColumns)[T]["columns"][number]]: unknown;
};

export const everyTable = Object.keys(boundColumns).filter(isBoundTable);

/** The tables that the first version with MACs bound, and those that have always been bound. */
export const firstTables = everyTable.filter((table) => table !== "route_issuer");

export type Row = Readonly<Record<string, unknown>>;

/** @param row read with exactly the covered columns and `mac` */
export function asBound(row: Row): BoundRow<BoundTable> & { readonly mac: string | null } {
  return { ...row, mac: typeof row.mac === "string" ? row.mac : null } as BoundRow<BoundTable> & {
    readonly mac: string | null;
  };
}

export function isBoundTable(name: string): name is BoundTable {
  return name in boundColumns;
}

/** Dates in ms, the precision of both drivers; all other values as JSON. */
export function canonical(value: unknown): unknown {
  if (value instanceof Date) return value.getTime();
  return value ?? null;
}
