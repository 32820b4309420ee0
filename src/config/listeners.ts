import { timingSafeEqual } from "node:crypto";
import { BlockList, isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { isLoopbackName } from "../egress/addresses.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";

/** Why a listener must not be opened as configured, or does less than it seems to. */
export interface ListenerFault {
  readonly severity: "error" | "warning";
  readonly path: readonly string[];
  readonly message: string;
  readonly fix: string;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

const setSecret =
  "set listen.envoy_secret (openssl rand -base64 33) and give the same value to Envoy (docs/deployment.md#authenticating-envoy), or listen on a Unix socket";

/**
 * Every peer authenticates on every TCP listener: gRPC by `envoy_secret` or by client certificates with names, HTTP by
 * `envoy_secret`. A Unix socket is guarded by its permissions.
 */
export function listenerFaults(
  listen: Pick<Config["listen"], "grpc" | "http" | "grpcTls" | "envoySecrets" | "grpcAuthentication">,
): readonly ListenerFault[] {
  const faults: ListenerFault[] = [];
  const found = (severity: ListenerFault["severity"], key: string, message: string, fix: string) =>
    faults.push({ severity, path: ["listen", key], message, fix });
  const secret = listen.envoySecrets.length > 0;
  const off = listen.grpcAuthentication === "none";
  if (off && (secret || listen.grpcTls)) {
    found(
      "error",
      "grpc_authentication",
      "none contradicts envoy_secret and grpc_tls",
      "remove grpc_authentication: none",
    );
  } else if (off && isTcp(listen.grpc) && !isLoopback(listen.grpc)) {
    found(
      "error",
      "grpc_authentication",
      `none is for loopback addresses only: any caller that reaches ${listen.grpc} would be treated as Envoy`,
      `${setSecret}, and remove grpc_authentication`,
    );
  } else if (!off && !secret && isTcp(listen.grpc)) {
    // A CA may serve a whole cluster: without names its certificates prove nothing.
    if (listen.grpcTls && listen.grpcTls.clientNames.length === 0)
      found(
        "error",
        "grpc_tls",
        "any certificate of client_ca is accepted as Envoy's",
        "name Envoy's certificate in listen.grpc_tls.client_names, or set listen.envoy_secret",
      );
    else if (!listen.grpcTls)
      found("error", "grpc", `any caller that reaches ${listen.grpc} is treated as Envoy`, setSecret);
  }
  if (!secret && isTcp(listen.http)) {
    if (!isLoopback(listen.http))
      found("error", "http", `any caller that reaches ${listen.http} is treated as Envoy`, setSecret);
    else if (!off)
      found(
        "warning",
        "http",
        "without an envoy_secret the client addresses that Envoy forwards are ignored: limits per address count all clients as one",
        setSecret,
      );
  }
  return faults;
}

/** Not a Unix socket. */
export function isTcp(address: string): boolean {
  return !address.startsWith("unix:");
}

/** `host:port` with an address of this machine's own; a name may lead anywhere. */
function isLoopback(address: string): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
  const family = isIP(host);
  return family !== 0 && loopback.check(host, family === 4 ? "ipv4" : "ipv6");
}

/** The HTTP header, and the key of gRPC metadata, in which Envoy shows `listen.envoy_secret`. */
export const envoySecretHeader = "x-mcp-auth-secret";
/** Where Envoy's configuration cannot add gRPC metadata: the ext_authz context extension with the same value. */
export const envoySecretExtension = "envoy_secret";

/** What a gRPC call's metadata (`Metadata` of grpc-js) holds under that key. */
export function shownBy(metadata: { get(key: string): readonly unknown[] }): string | string[] | undefined {
  const [one, ...more] = metadata.get(envoySecretHeader).map(String);
  return one === undefined || more.length === 0 ? one : [one, ...more];
}

/** What a peer has shown: a right secret (or none is asked for), none, or a wrong one. */
export type PeerProof = "proven" | "missing" | "wrong";

/** Whether the peer of a listener is Envoy. */
export interface PeerAuthentication {
  /** @param shown the header's value; several are wrong. Takes the same time for every wrong value of one length. */
  judge(shown: string | readonly string[] | undefined): PeerProof;
  /** To be called when a call is turned away for its proof: counts, and logs at a bounded rate. */
  rejected(): void;
}

/**
 * For one listener. A Unix socket's permissions are proof enough, and so is a client certificate where no secret is set.
 *
 * @param address `host:port` or `unix:/path`.
 */
export function peerAuthentication(
  address: string,
  { envoySecrets }: Pick<Config["listen"], "envoySecrets">,
  refused: () => void = () => {},
): PeerAuthentication {
  if (!isTcp(address) || envoySecrets.length === 0) return { judge: () => "proven", rejected: refused };
  const secrets = envoySecrets.map((secret) => Buffer.from(secret, "latin1"));
  return {
    rejected: refused,
    judge(shown) {
      if (shown === undefined || shown.length === 0) return "missing";
      if (typeof shown !== "string") return "wrong";
      const bytes = Buffer.from(shown, "latin1");
      let right = false;
      for (const secret of secrets)
        if (secret.length === bytes.length && timingSafeEqual(secret, bytes)) right = true;
      return right ? "proven" : "wrong";
    },
  };
}

/** The key of gRPC metadata that names such a call inside this process. */
const callKey = "x-mcp-auth-call";
const calls = new Map<string, () => void>();
let last = 0;

/**
 * Names a gRPC call whose caller has shown nothing in its metadata: grpc-js gives a service the call's metadata, but not its
 * connection.
 *
 * @param headers of the call, before grpc-js reads them; what a caller says under that key is overwritten.
 * @param onProven called once the service has found out that the caller is Envoy.
 * @returns to be called when the call is over.
 */
export function nameUnprovenCall(headers: Record<string, unknown>, onProven: () => void): () => void {
  const name = String(++last);
  headers[callKey] = name;
  calls.set(name, onProven);
  return () => calls.delete(name);
}

/** The caller has shown nothing in the call's metadata (`Metadata` of grpc-js), but its message proves that it is Envoy. */
export function provenByMessage(metadata: { get(key: string): readonly unknown[] }): void {
  const [name] = metadata.get(callKey);
  calls.get(String(name))?.();
}

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
      `clients that reach ${httpAddress} are served without TLS: tokens are sent unencrypted`,
      "publish its ports on the loopback address of the host only (in a container: -p 127.0.0.1:8000:8000)",
    );
  if (tls.terminatedBy === undefined) return;
  for (const key of ["certificate", "key"] as const)
    if (written[key] !== undefined)
      reporter.error(
        ["envoy", "tls", key],
        "TLS is terminated by terminated_by: Envoy uses no certificate",
        `remove ${key}, or terminated_by`,
        "key",
      );
  if (listen.startsWith("unix:"))
    reporter.error(
      ["envoy", "listen"],
      "terminated_by lists addresses, and the peer of a Unix socket has none",
      "listen on host:port",
    );
  for (const [index, block] of tls.terminatedBy.entries()) {
    const [address, bits] = addressBlock(block);
    const path = ["envoy", "tls", "terminated_by", index];
    if (bits < (address.kind() === "ipv4" ? 8 : 16))
      reporter.error(
        path,
        `${block} is too large: any client in it could forge the address and the scheme of a request`,
        "name the address or the network of the TLS terminator",
      );
    else if (address.range() === "unicast")
      reporter.warn(
        path,
        `${block} is a public address: tokens are sent unencrypted between it and Envoy`,
        "terminate TLS on this machine or in this network, or in Envoy",
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
  const verify = "set database.tls: verify-full, and database.tls_ca to the CA of its certificate";
  for (const [field, value] of [
    ["url", url],
    ["listen_url", listenUrl],
  ] as const) {
    const exposure = value === undefined ? undefined : databaseExposure(value, tls);
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
