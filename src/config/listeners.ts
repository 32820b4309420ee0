import { timingSafeEqual } from "node:crypto";
import { BlockList, isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { isLoopbackName } from "../egress/addresses.ts";
import type { Config } from "./config.ts";
import type { Reporter } from "./reporter.ts";

/** A problem of a listener's configuration. */
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
    // A CA may serve a whole cluster: without names, its certificates do not identify Envoy.
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

/** `host:port` with a loopback address; a name may resolve to any address. */
export function isLoopback(address: string): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
  const family = isIP(host);
  return family !== 0 && loopback.check(host, family === 4 ? "ipv4" : "ipv6");
}

/** The HTTP header, and the key of gRPC metadata, in which Envoy sends `listen.envoy_secret`. */
export const envoySecretHeader = "x-mcp-auth-secret";
/** The ext_authz context extension with the same value, if Envoy's configuration cannot add gRPC metadata. */
export const envoySecretExtension = "envoy_secret";

/** The secret in a gRPC call's metadata (`Metadata` of grpc-js). */
export function shownBy(metadata: { get(key: string): readonly unknown[] }): string | string[] | undefined {
  const [one, ...more] = metadata.get(envoySecretHeader).map(String);
  return one === undefined || more.length === 0 ? one : [one, ...more];
}

/** Result of authenticating a peer: a valid secret (or none is required), none, or a wrong one. */
export type PeerProof = "proven" | "missing" | "wrong";

/** Whether the peer of a listener is Envoy. */
export interface PeerAuthentication {
  /** @param shown the header's value; several values are wrong. Takes constant time for values of the same length. */
  verify(shown: string | readonly string[] | undefined): PeerProof;
  /** Call this when a call is rejected because of its proof: counts, and logs at a limited rate. */
  rejected(): void;
}

/**
 * For one listener. The permissions of a Unix socket are sufficient proof, as is a client certificate if no secret is set.
 *
 * @param address `host:port` or `unix:/path`.
 */
export function peerAuthentication(
  address: string,
  { envoySecrets }: Pick<Config["listen"], "envoySecrets">,
  rejected: () => void = () => {},
): PeerAuthentication {
  if (!isTcp(address) || envoySecrets.length === 0) return { verify: () => "proven", rejected };
  const secrets = envoySecrets.map((secret) => Buffer.from(secret, "latin1"));
  return {
    rejected,
    verify(shown) {
      if (shown === undefined || shown.length === 0) return "missing";
      if (typeof shown !== "string") return "wrong";
      const bytes = Buffer.from(shown, "latin1");
      let valid = false;
      for (const secret of secrets)
        if (secret.length === bytes.length && timingSafeEqual(secret, bytes)) valid = true;
      return valid ? "proven" : "wrong";
    },
  };
}

/** The key of gRPC metadata that identifies an unauthenticated call inside this process. */
const callKey = "x-mcp-auth-call";
const calls = new Map<string, () => void>();
let last = 0;

/**
 * Assigns an id to a gRPC call without a secret in its metadata: grpc-js passes a service the metadata of the call, but not its
 * connection.
 *
 * @param headers of the call, before grpc-js reads them; a value of the caller under that key is overwritten
 * @param onProven called once the service has authenticated the caller as Envoy
 * @returns a function to call when the call ends
 */
export function nameUnprovenCall(headers: Record<string, unknown>, onProven: () => void): () => void {
  const name = String(++last);
  headers[callKey] = name;
  calls.set(name, onProven);
  return () => calls.delete(name);
}

/** Reports that a message authenticates the caller of a call without a secret in its metadata (`Metadata` of grpc-js). */
export function provenByMessage(metadata: { get(key: string): readonly unknown[] }): void {
  const [name] = metadata.get(callKey);
  calls.get(String(name))?.();
}

type PlainConfig = Pick<Config, "issuer" | "routes" | "envoy">;

/** A listener of the generated Envoy configuration for `http:` origins. */
export interface PlainListener {
  /** `host:port` to listen on. */
  readonly address: string;
  /** As in `Route.host`. */
  readonly hosts: ReadonlySet<string>;
}

/** The listeners of the generated Envoy configuration for `http:` origins: one per port, for these hosts only. */
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

/** Reports listeners of the generated Envoy configuration that expose traffic without TLS, or that conflict. */
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

/** An IP address or a CIDR block, and its prefix length. */
export function addressBlock(text: string): readonly [address: ipaddr.IPv4 | ipaddr.IPv6, bits: number] {
  if (ipaddr.isValidCIDR(text)) return ipaddr.parseCIDR(text);
  const address = ipaddr.parse(text);
  return [address, address.kind() === "ipv4" ? 32 : 128];
}
