import { isLoopbackName } from "../egress/addresses.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";

/** Reports a database that others may listen to, and a `database.tls_ca` that nothing is verified by. */
export function checkDatabase({ database }: Config, reporter: Reporter): void {
  const { url, listenUrl, tls, tlsCa } = database;
  const verify = "set database.tls: verify-full, and database.tls_ca to the authority of its certificate";
  for (const [field, value] of [
    ["url", url],
    ["listen_url", listenUrl],
  ] as const) {
    const exposure = value === undefined ? undefined : databaseExposure(value, tls);
    if (exposure !== undefined) reporter.warn(["database", field], exposure, verify);
  }
  if (tlsCa !== undefined && tls !== "verify-full")
    reporter.error(["database", "tls_ca"], "nothing is verified by it", "set database.tls: verify-full");
}

/**
 * Why whoever stands between us and this Postgres can read or change what is said there; undefined where nobody can, or where it
 * is on this machine. `pg` verifies certificate and name for `sslmode` `prefer` and `require` as it does for `verify-full`.
 * @param url of the database; one that cannot be read is somebody else's to report
 * @param tls `database.tls`, which wins over the URL
 */
export function databaseExposure(
  url: string,
  tls: "verify-full" | "disable" | undefined,
): string | undefined {
  if (!URL.canParse(url)) return undefined;
  const { hostname, searchParams } = new URL(url);
  const host = searchParams.get("host") ?? decodeURIComponent(hostname);
  if (host === "" || host.startsWith("/") || isLoopbackName(host)) return undefined;
  if (tls === "verify-full") return undefined;
  const mode = tls === "disable" ? "disable" : searchParams.get("sslmode");
  const plain = `the connection to the database at ${host} is not encrypted`;
  const unverified = `nobody verifies that it is the database at ${host} that answers`;
  if (mode === null) {
    const ssl = searchParams.get("ssl");
    return ssl === "true" || ssl === "1" || searchParams.has("sslrootcert") ? undefined : plain;
  }
  if (mode === "disable") return plain;
  if (mode === "no-verify") return unverified;
  const likeLibpq = searchParams.get("uselibpqcompat") === "true";
  return likeLibpq && mode !== "verify-full" ? unverified : undefined;
}
