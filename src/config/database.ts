import { isLoopbackName } from "../egress/addresses.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";

/** Reports URLs that cannot be read, unprotected connections, and a `database.tls_ca` without effect. */
export function checkDatabase({ database }: Config, reporter: Reporter): void {
  const { url, listenUrl, tls, tlsCa } = database;
  const verify = "set database.tls: verify-full, and database.tls_ca to the CA of its certificate";
  for (const [field, value] of [
    ["url", url],
    ["listen_url", listenUrl],
  ] as const) {
    if (value === undefined) continue;
    // The value is a secret, so the message does not contain it.
    if (!isDatabaseUrl(value))
      reporter.error(
        ["database", field],
        `its value${field === "url" ? ", or that of DATABASE_URL," : ", or that of DATABASE_LISTEN_URL,"} is not the URL of a Postgres server`,
        "write postgres://USER:PASSWORD@HOST:5432/DATABASE, with / ? # % and @ in the password percent-encoded (/ is %2F), or use a password without them (openssl rand -hex 24)",
      );
    const exposure = databaseExposure(value, tls);
    if (exposure !== undefined) reporter.warn(["database", field], exposure, verify);
  }
  if (tlsCa !== undefined && tls !== "verify-full")
    reporter.error(
      ["database", "tls_ca"],
      "it has no effect without database.tls: verify-full",
      "set database.tls: verify-full",
    );
}

/**
 * Whether `pg` connects to the host that is meant. An unencoded `/`, `?` or `#` in the password ends the host early: the part before it
 * becomes the port or makes the URL invalid. `pg` also takes the path of a socket, and a URL with a user and no host.
 */
function isDatabaseUrl(url: string): boolean {
  if (url.startsWith("/") || url.startsWith("socket:")) return true;
  const parsed = /^[a-z]+:\/\//.test(url) ? URL.parse(url.replace("@/", "@localhost/")) : null;
  return parsed !== null && parsed.hash === "" && !parsed.pathname.includes("@");
}

/**
 * Why the connection to this Postgres can be intercepted; undefined if it cannot, or if the database is on this machine. For `sslmode`
 * `prefer` and `require`, `pg` verifies certificate and name as for `verify-full`.
 * @param url of the database; an invalid URL is reported elsewhere
 * @param tls `database.tls`, which overrides the URL
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
  const unverified = `the identity of the database at ${host} is not verified`;
  if (mode === null) {
    const ssl = searchParams.get("ssl");
    return ssl === "true" || ssl === "1" || searchParams.has("sslrootcert") ? undefined : plain;
  }
  if (mode === "disable") return plain;
  if (mode === "no-verify") return unverified;
  const likeLibpq = searchParams.get("uselibpqcompat") === "true";
  return likeLibpq && mode !== "verify-full" ? unverified : undefined;
}
