import type pg from "pg";
import { encryption, localKeyEncryptionKeys } from "../../src/store/encryption/encryption.ts";
import { fillTables } from "../../test/support/fill-tables.ts";
import { withoutPlans } from "../../test/support/plan-log.ts";
import type { Table } from "../report/report.ts";
import { withoutIndexes } from "./without-indexes.ts";

/** Lengths of ciphertexts that the product has written, in a run of its tests: the authorization server's records, and a sign-in. */
const written = {
  "authorization_server_record.Grant": 726,
  "authorization_server_record.RefreshToken": 905,
  "authorization_server_record.AuthorizationCode": 1007,
  "authorization_server_record.Interaction": 1200,
  "authorization_server_record.Client": 991,
  sign_in_session: 1782,
  pending_authorization: 700,
  aggregate_session: 1500,
  replica_message: 1500,
} as const;
/** A key's name, a dot and an HMAC. */
const macLength = 80;

/** Fills the empty tables and analyzes them. @param options.share of the real length of ciphertexts */
export async function fillDatabase(
  client: pg.Client,
  options: {
    readonly connections: number;
    readonly routes: number;
    readonly upstream: string;
    readonly share: number;
  },
  progress: (line: string) => void,
): Promise<void> {
  const scaled = (length: number) => Math.max(1, Math.round(length * options.share));
  // Half of the upstreams issue opaque tokens, half JWTs.
  const [opaque, jwt] = [await connectionLength(60, 60), await connectionLength(800, 200)];
  const connectionSealed = `(case when i % 2 = 0 then ${scaled(opaque)} else ${scaled(jwt)} end)`;
  await client.query(withoutPlans);
  await client.query("set synchronous_commit = off");
  await fillTables(
    client,
    {
      connections: options.connections,
      // A few connections belong to no route any more.
      routes: Math.ceil(options.routes * 1.001),
      upstream: `'${options.upstream}'`,
      keyId: "bench",
      mac: macLength,
      sealed: {
        ...Object.fromEntries(Object.entries(written).map(([name, length]) => [name, scaled(length)])),
        upstream_token: connectionSealed,
      },
      around: (table, fill) => withoutIndexes(client, table, fill),
    },
    progress,
  );
  progress("vacuum and analyze");
  await client.query("vacuum (analyze)");
  await client.query("checkpoint");
}

/** Of the ciphertext of a connection with tokens of these lengths. */
async function connectionLength(accessToken: number, refreshToken: number): Promise<number> {
  const { encrypt } = encryption(await localKeyEncryptionKeys([{ kid: "bench", bytes: new Uint8Array(32) }]));
  const { sealed } = await encrypt("upstream_token", ["company/0123456789abcdef01234567", "route-1", "url"], {
    issuer: "https://as.example.com",
    tokenEndpoint: "https://as.example.com/oauth2/token",
    revocationEndpoint: "https://as.example.com/oauth2/revoke",
    clientId: "0123456789abcdef0123456789abcdef",
    redirectUri: "https://mcp.example.com/.pomerium/mcp/client/oauth/callback",
    accessToken: "a".repeat(accessToken),
    tokenType: "Bearer",
    refreshToken: "r".repeat(refreshToken),
    scopes: ["read", "write", "offline_access"],
    resource: "https://upstream1.example.com/mcp",
  });
  return sealed.length;
}

/** Rows and bytes of every table that has rows. */
export async function sizes(client: pg.Client, connections: number): Promise<Table> {
  const { rows } = await client.query<{ name: string; rows: number; bytes: number; indexes: number }>(
    `select relname as name, reltuples::float8 as rows, pg_table_size(oid)::float8 as bytes,
       pg_indexes_size(oid)::float8 as indexes
     from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and reltuples > 0
     order by pg_total_relation_size(oid) desc`,
  );
  const mib = (bytes: number) => bytes / 2 ** 20;
  const all = { name: "all", rows: 0, bytes: 0, indexes: 0 };
  for (const row of rows)
    for (const column of ["rows", "bytes", "indexes"] as const) all[column] += row[column];
  return {
    title: "Tables",
    note: "After `analyze`. Bytes per connection are those of the whole table with its indexes, divided by the number of connections.",
    lines: [...rows, all].map((row) => ({
      name: row === all ? "**all**" : `\`${row.name}\``,
      figures: {
        rows: Math.round(row.rows),
        "MiB of rows": mib(row.bytes),
        "MiB of indexes": mib(row.indexes),
        "bytes per row": Math.round((row.bytes + row.indexes) / row.rows),
        "bytes per connection": Math.round((row.bytes + row.indexes) / connections),
      },
    })),
  };
}
