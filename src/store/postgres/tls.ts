import { readFileSync } from "node:fs";
import type { ClientConfig } from "pg";
import { StoreMisconfigured } from "../errors.ts";

/** How the connection to Postgres is protected; wins over what the URL says of it. */
export interface PostgresTls {
  /** `verify-full`: TLS, the server's certificate and name are verified. `disable`: none. Absent: as the URL says (`sslmode`). */
  readonly tls?: "verify-full" | "disable";
  /** PEM file of the authorities that may have signed the server's certificate; default: those that Node trusts. */
  readonly tlsCa?: string;
}

/** Parameters of a URL that say how it is protected; `sslcert` and `sslkey` say who we are, and stay. */
const parameters = ["ssl", "sslmode", "sslrootcert", "sslnegotiation", "uselibpqcompat"];

/**
 * The part of `pg`'s configuration that says where the server is and how it is protected.
 * @throws StoreMisconfigured `database_tls_invalid` when the file of authorities cannot be read
 */
export function postgresAddress(
  url: string,
  { tls, tlsCa }: PostgresTls,
): Pick<ClientConfig, "connectionString" | "ssl"> {
  if (tls === undefined) return { connectionString: url };
  const bare = new URL(url);
  for (const name of parameters) bare.searchParams.delete(name);
  if (tls === "disable") return { connectionString: `${bare}`, ssl: false };
  const ca = tlsCa === undefined ? {} : { ca: readAuthorities(tlsCa) };
  const own: { cert?: string; key?: string } = {};
  for (const [parameter, field] of [
    ["sslcert", "cert"],
    ["sslkey", "key"],
  ] as const) {
    const path = bare.searchParams.get(parameter);
    if (path !== null) own[field] = readAuthorities(path);
    // pg would take the URL's word for everything else, too.
    bare.searchParams.delete(parameter);
  }
  return { connectionString: `${bare}`, ssl: { rejectUnauthorized: true, ...ca, ...own } };
}

function readAuthorities(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new StoreMisconfigured("database_tls_invalid", `database.tls_ca: cannot read ${path}`, error);
  }
}
