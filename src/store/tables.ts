import type { ColumnType, Generated } from "kysely";
import type { RouteDiscovery } from "../model/route.ts";

/** `sealed`: a compact JWE bound to its row; `key_id`: the key-encryption key it was encrypted with. */
interface Encrypted {
  sealed: string;
  key_id: string;
}
/** Written as JSON text and read as a value, which works with both drivers. */
type Json<T> = ColumnType<T, string, string>;

/** The MAC of the clear-text columns (mac-columns.ts); null: written by a version without MACs. */
interface Bound {
  mac: string | null;
}

export interface UpstreamTokenTable extends Encrypted, Bound {
  user_id: string;
  route_id: string;
  upstream: string;
  version: Generated<number>;
  expires_at: Date | null;
  refresh_expires_at: Date | null;
  refreshable: boolean;
  lease_owner: string | null;
  lease_until: Date | null;
  connected_at: Generated<Date>;
  updated_at: Generated<Date>;
  last_used_at: Date | null;
  /** Written by versions before `orphaned_upstream`. */
  orphaned_at: Date | null;
  dormant_at: Date | null;
  refresh_final_at: Date | null;
  refused_version: number | null;
  refused_count: number | null;
  refused_since: Date | null;
}

/** All tables for Kysely; `migrations/` creates them. */
export interface Tables {
  upstream_token: UpstreamTokenTable;
  orphaned_upstream: {
    route_id: string;
    upstream: string;
    orphaned_at: Generated<Date>;
    ending: Generated<boolean>;
  };
  background_work: {
    name: string;
    owner: string | null;
    lease_until: Date | null;
    started_at: Date;
  };
  upstream_demand: Bound & {
    user_id: string;
    route_id: string;
    upstream: string;
    scopes: Json<string[]>;
    resource_metadata: string | null;
    demanded_at: Date;
  };
  pending_authorization: Encrypted &
    Bound & {
      kind: string;
      state_name: string;
      user_id: string | null;
      expires_at: Date;
    };
  client_registration: Bound & {
    issuer: string;
    redirect_uri: string;
    client_id: string | null;
    secret_expires_at: Date | null;
    sealed: string | null;
    key_id: string | null;
    lease_owner: string | null;
    lease_until: Date | null;
    created_at: Generated<Date>;
  };
  route_issuer: Bound & {
    id: Generated<number>;
    route_id: string;
    upstream: string;
    issuer: string;
    accepted: Generated<boolean>;
    created_at: Generated<Date>;
  };
  client_issuer: Bound & {
    route_id: string;
    upstream: string;
    client_id: string;
    issuer: string;
    created_at: Generated<Date>;
  };
  authorization_server_record: Encrypted &
    Bound & {
      model: string;
      id_name: string;
      grant_id: string | null;
      uid_name: string | null;
      user_code_name: string | null;
      user_id: string | null;
      client_id: string | null;
      created_at: Generated<Date>;
      expires_at: Date | null;
      consumed_at: Date | null;
    };
  delegation: Bound & {
    grant_id: string;
    route_id: string;
    account: string;
    owner_id: string;
    upstream: string | null;
    delegated_at: Date | null;
    created_at: Generated<Date>;
    expires_at: Date;
  };
  granted_member: Bound & {
    grant_id: string;
    route_id: string;
    upstream: string;
    expires_at: Date | null;
    created_at: Generated<Date>;
  };
  browser_session: Bound & {
    id_name: string;
    host: string;
    user_id: string;
    parent_name: string | null;
    created_at: Date;
    expires_at: Date;
  };
  sign_in_session: Encrypted &
    Bound & {
      user_id: string;
      provider_id: string;
      subject: string;
      sid_name: string | null;
      checked_at: Date;
      /** As if checked at this time: the record was in use then, and is looked at again 90 days later. */
      kept_at: Date | null;
    };
  signing_key: Encrypted &
    Bound & {
      kid: string;
      purpose: string;
      created_at: Date;
      active_at: Date;
      expires_at: Date | null;
    };
  stored_route: Encrypted &
    Bound & {
      id: string;
      place: string;
      version: Generated<number>;
      discovery: Json<RouteDiscovery> | null;
      created_at: Generated<Date>;
      updated_at: ColumnType<Date, Date | undefined, Date>;
    };
  aggregate_session: Encrypted &
    Bound & {
      handle_name: string;
      user_id: string;
      grant_id: string;
      route_id: string;
      version: number;
      expires_at: Date;
    };
  replica_message: Encrypted & {
    to_replica: string;
    id: string;
    position: Generated<number>;
    expires_at: Date;
  };
  elicitation_session: Bound & {
    session_name: string;
    user_name: string;
    expires_at: Date;
  };
  admin_code: Bound & {
    code_name: string;
    session_name: string;
    user_id: string;
    expires_at: Date;
  };
  admin_session: Bound & {
    id_name: string;
    session_name: string;
    user_id: string;
    created_at: Date;
    expires_at: Date;
  };
  replica: {
    name: string;
    version: string;
    started_at: Date;
    seen_at: Date;
  };
  used_value: {
    kind: string;
    name: string;
    expires_at: Date;
  };
  row_pass: {
    kind: string;
    target: string | null;
    position: Json<object> | null;
    owner: string | null;
    lease_until: Date | null;
  };
  audit_batch: {
    number: number;
    first_id: number;
    last_id: number;
    first_at: Date;
    last_at: Date;
    ids: Json<number[]>;
    hashes: Uint8Array;
    previous: string;
    hash: string;
    checkpoint: string;
  };
  audit_export: {
    destination: string;
    batch: number;
    hash: string;
    updated_at: ColumnType<Date, Date | undefined, Date>;
  };
  audit_event: {
    id: Generated<number>;
    at: Generated<Date>;
    action: string;
    actor: string | null;
    user_id: string | null;
    client_id: string | null;
    grant_id: string | null;
    route_id: string | null;
    upstream: string | null;
    issuer: string | null;
    reason: string | null;
    request_id: string | null;
    detail: Json<Record<string, string | number | boolean>> | null;
  };
}
