import { type Encryption, encryption } from "../../src/store/encryption/encryption.ts";
import { hashedHandle } from "../../src/store/hashed-handle.ts";
import { makeKeys } from "./backends.ts";
import { connection, upstreamToken } from "./samples.ts";

/** A statement of a replica of that version, with only the columns it knows. */
export interface WrittenRow {
  readonly table: string;
  readonly values: Readonly<Record<string, string | number | boolean | Date | null>>;
}

const later = new Date(Date.now() + 86_400_000);
const connectionColumns = {
  user_id: connection.userId,
  route_id: connection.routeId,
  upstream: connection.upstream,
};

/** The rows that each migration introduced, as written at that time; a migration without an entry fails the test. */
const brought: Readonly<Record<string, (encrypt: Encryption["encrypt"]) => Promise<WrittenRow[]>>> = {
  async "0001_tables"(encrypt): Promise<WrittenRow[]> {
    const { userId, routeId, upstream, expiresAt: _, ...part } = upstreamToken();
    const record = async (
      model: string,
      id: string,
      payload: object,
      more: WrittenRow["values"],
    ): Promise<WrittenRow> => ({
      table: "authorization_server_record",
      values: {
        model,
        id_name: hashedHandle(id),
        ...(await encrypt("authorization_server_record", [model, hashedHandle(id)], { id, payload })),
        ...more,
      },
    });
    return [
      {
        table: "upstream_token",
        values: {
          ...connectionColumns,
          ...(await encrypt("upstream_token", [userId, routeId, upstream], part)),
          expires_at: later,
          refreshable: true,
        },
      },
      {
        table: "upstream_demand",
        values: { ...connectionColumns, scopes: '["more"]', demanded_at: new Date() },
      },
      {
        table: "pending_authorization",
        values: {
          kind: "upstream",
          state_name: hashedHandle("state"),
          user_id: userId,
          ...(await encrypt("pending_authorization", ["upstream", hashedHandle("state")], { from: "old" })),
          expires_at: later,
        },
      },
      {
        table: "client_registration",
        values: {
          issuer: "https://as.example.com",
          redirect_uri: "https://a.test/cb",
          client_id: "c",
          ...(await encrypt("client_registration", ["https://as.example.com", "https://a.test/cb"], {
            clientId: "c",
            clientSecret: "secret-client-secret",
            authMethod: "client_secret_basic",
            metadata: {},
          })),
        },
      },
      await record(
        "Grant",
        "g1",
        { accountId: userId, clientId: "client" },
        {
          grant_id: "g1",
          user_id: userId,
          client_id: "client",
          expires_at: later,
        },
      ),
      await record("RefreshToken", "r1", { grantId: "g1" }, { grant_id: "g1", expires_at: later }),
      {
        table: "browser_session",
        values: {
          id_name: hashedHandle("b1"),
          host: "a.test",
          user_id: userId,
          created_at: new Date(),
          expires_at: later,
        },
      },
      {
        table: "sign_in_session",
        values: {
          user_id: userId,
          provider_id: "company",
          subject: "alice",
          sid_name: hashedHandle("sid"),
          ...(await encrypt("sign_in_session", [userId], {
            groups: ["staff"],
            claims: {},
            refreshToken: "secret",
          })),
          checked_at: new Date(),
        },
      },
      {
        table: "signing_key",
        values: {
          kid: "k-old",
          purpose: "external_token",
          ...(await encrypt("signing_key", ["k-old"], { kty: "EC", d: "secret" })),
          created_at: new Date(),
          active_at: new Date(),
        },
      },
      { table: "audit_event", values: { action: "grant.created", user_id: userId, detail: '{"a":1}' } },
    ];
  },
  // Only new columns; the statements for the old ones stay.
  "0002_connection_use": async () => [],
  async "0003_stored_route"(encrypt): Promise<WrittenRow[]> {
    const entry = { id: "stored", from: "https://stored.test", to: "http://127.0.0.1:1" };
    return [
      {
        table: "stored_route",
        values: {
          id: "stored",
          place: "stored.test/",
          ...(await encrypt("stored_route", ["stored"], entry)),
        },
      },
    ];
  },
  "0004_delegation": async () => [
    {
      table: "delegation",
      values: {
        grant_id: "g1",
        route_id: connection.routeId,
        account: "service-account/ci",
        owner_id: connection.userId,
        upstream: connection.upstream,
        delegated_at: new Date(),
        expires_at: later,
      },
    },
  ],
  "0005_client_issuer": async () => [
    {
      table: "client_issuer",
      values: {
        route_id: connection.routeId,
        upstream: connection.upstream,
        client_id: "c",
        issuer: "https://as.example.com",
      },
    },
  ],
  "0008_route_issuer": async () => [
    {
      table: "route_issuer",
      values: {
        route_id: connection.routeId,
        upstream: connection.upstream,
        issuer: "https://as.example.com",
      },
    },
  ],
  "0011_bound_route_issuer": async () => [],
  "0018_row_pass": async () => [
    { table: "row_pass", values: { kind: "rotate_keys", target: "{}", position: null } },
  ],
  // Only new columns.
  "0019_audit_actor": async () => [],
  "0021_admin_page": async (): Promise<WrittenRow[]> => {
    const of = { session_name: hashedHandle("browser session"), user_id: connection.userId };
    const at = new Date();
    return [
      { table: "admin_code", values: { code_name: hashedHandle("code"), ...of, expires_at: later } },
      {
        table: "admin_session",
        values: { id_name: hashedHandle("id"), ...of, created_at: at, expires_at: later },
      },
      { table: "replica", values: { name: "host:1", version: "1.0.0", started_at: at, seen_at: at } },
    ];
  },
  "0020_stored_route_discovery": async () => [],
  "0022_audit_record": async (): Promise<WrittenRow[]> => [
    {
      table: "audit_batch",
      values: {
        number: 1,
        first_id: 1,
        last_id: 1,
        first_at: new Date(),
        last_at: new Date(),
        ids: "[1]",
        hashes: "00",
        previous: "p",
        hash: "h",
        checkpoint: "c",
      },
    },
    { table: "audit_export", values: { destination: "http", batch: 1, hash: "h" } },
  ],
  "0013_elicitation_session": async () => [
    {
      table: "elicitation_session",
      values: {
        session_name: hashedHandle("session"),
        user_name: hashedHandle(connection.userId),
        expires_at: later,
      },
    },
  ],
  // Counters on existing rows.
  "0012_refresh_refusals": async () => [],
  // A column that only the removal of expired rows sets.
  "0017_expiry_and_listings": async () => [],
  async "0015_aggregation"(encrypt): Promise<WrittenRow[]> {
    const name = hashedHandle("session");
    const envelope = { expiresAt: later.getTime(), payload: "hello" };
    return [
      {
        table: "aggregate_session",
        values: {
          handle_name: name,
          user_id: connection.userId,
          grant_id: "g1",
          route_id: "everything",
          version: 1,
          ...(await encrypt("aggregate_session", [name], { members: 1 })),
          expires_at: later,
        },
      },
      {
        table: "replica_message",
        values: {
          to_replica: "other",
          id: "m1",
          ...(await encrypt("replica_message", ["other", "m1"], envelope)),
          expires_at: later,
        },
      },
    ];
  },
  "0014_granted_member": async () => [
    {
      table: "granted_member",
      values: {
        grant_id: "g1",
        route_id: connection.routeId,
        upstream: connection.upstream,
        expires_at: later,
      },
    },
  ],
  "0016_background_work": async (): Promise<WrittenRow[]> => [
    { table: "orphaned_upstream", values: { route_id: "removed", upstream: connection.upstream } },
    { table: "background_work", values: { name: "orphans", started_at: new Date() } },
  ],
  "0010_bound_rows": async () => [
    {
      table: "used_value",
      values: { kind: "logout_token", name: hashedHandle("jti"), expires_at: later },
    },
  ],
};

/**
 * Rows for every table as a replica of `version` (the name of its newest migration) writes them, encrypted with the key `k1` of
 * `makeKeys`.
 * @throws Error if a migration has no entry here
 */
export async function rowsOfVersion(version: string, names: readonly string[]): Promise<WrittenRow[]> {
  const { encrypt } = encryption(await makeKeys("k1"));
  const rows: WrittenRow[] = [];
  for (const name of names.slice(0, names.indexOf(version) + 1)) {
    const rowsOf = brought[name];
    if (!rowsOf)
      throw new Error(`${name}: add to ${import.meta.filename} what a replica writes from this migration on`);
    rows.push(...(await rowsOf(encrypt)));
  }
  return rows;
}
