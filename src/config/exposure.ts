import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { isLoopbackName } from "../egress/addresses.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";

type PlainConfig = Pick<Config, "issuer" | "routes" | "envoy">;

/** A listener of the generated Envoy for origins that are `http:`. */
export interface PlainListener {
  /** `host:port` to listen on. */
  readonly address: string;
  /** As in `Route.host`. */
  readonly hosts: ReadonlySet<string>;
}

/** Where the generated Envoy serves `http://localhost` and its like: one listener per port, which knows no other host. */
export function plainListeners({ issuer, routes, envoy }: PlainConfig): readonly PlainListener[] {
  const found = new Map<string, Set<string>>();
  for (const origin of [new URL(issuer).origin, ...routes.map((route) => route.origin)]) {
    const url = new URL(origin);
    if (url.protocol !== "http:") continue;
    const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const ip = envoy.httpAddress ?? (isIP(name) === 0 ? "127.0.0.1" : name);
    const address = `${isIP(ip) === 6 ? `[${ip}]` : ip}:${url.port || 80}`;
    found.set(address, (found.get(address) ?? new Set()).add(url.host));
  }
  return [...found].map(([address, hosts]) => ({ address, hosts }));
}

/** What the generated Envoy would serve without TLS to more than it should, or could not listen on. */
export function checkPlainListeners(
  config: PlainConfig,
  written: { readonly certificate?: unknown; readonly key?: unknown },
  reporter: Pick<Reporter, "error" | "warn">,
): void {
  const { listen, tls, httpAddress } = config.envoy;
  for (const { address, hosts } of plainListeners(config)) {
    if (address === listen || listen === `0.0.0.0:${address.replace(/.*:/, "")}`)
      reporter.error(
        ["envoy", "listen"],
        `${listen} is where http://${[...hosts][0]} is served without TLS`,
        "give envoy.listen another port: it serves the https origins",
      );
  }
  if (
    httpAddress !== undefined &&
    !isLoopbackName(isIP(httpAddress) === 6 ? `[${httpAddress}]` : httpAddress)
  )
    reporter.warn(
      ["envoy", "http_address"],
      `whoever reaches ${httpAddress} is served without TLS: tokens travel in the clear`,
      "publish its ports on the loopback address of the machine only (in a container: -p 127.0.0.1:8000:8000)",
    );
  if (tls.terminatedBy === undefined) return;
  for (const key of ["certificate", "key"] as const)
    if (written[key] !== undefined)
      reporter.error(
        ["envoy", "tls", key],
        "TLS ends at terminated_by: Envoy shows no certificate",
        `remove ${key}, or terminated_by`,
        "key",
      );
  if (listen.startsWith("unix:"))
    reporter.error(
      ["envoy", "listen"],
      "terminated_by names addresses, and a Unix socket's peer has none",
      "listen on host:port",
    );
  for (const [index, block] of tls.terminatedBy.entries()) {
    const [address, bits] = addressBlock(block);
    const path = ["envoy", "tls", "terminated_by", index];
    if (bits < (address.kind() === "ipv4" ? 8 : 16))
      reporter.error(
        path,
        `${block} is half the world: anybody could say for whom and over what a request came`,
        "name the address or the network of what terminates TLS",
      );
    else if (address.range() === "unicast")
      reporter.warn(
        path,
        `${block} is a public address: between it and Envoy tokens travel in the clear`,
        "terminate TLS on this machine or in this network, or let Envoy do it",
      );
  }
}

/** An address, or a block of some, and how many of its bits count. */
export function addressBlock(text: string): readonly [address: ipaddr.IPv4 | ipaddr.IPv6, bits: number] {
  if (ipaddr.isValidCIDR(text)) return ipaddr.parseCIDR(text);
  const address = ipaddr.parse(text);
  return [address, address.kind() === "ipv4" ? 32 : 128];
}

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
