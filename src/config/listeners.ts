import { timingSafeEqual } from "node:crypto";
import { BlockList, isIP } from "node:net";
import type { Config } from "./config.ts";

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
  "set listen.envoy_secret (openssl rand -base64 33) and give the same value to Envoy (docs/deployment.md#envoy-proves-itself), or listen on a Unix socket";

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
      "none contradicts the envoy_secret or grpc_tls beside it",
      "remove grpc_authentication: none",
    );
  } else if (off && isTcp(listen.grpc) && !isLoopback(listen.grpc)) {
    found(
      "error",
      "grpc_authentication",
      `none is for loopback addresses only: whoever reaches ${listen.grpc} would be taken for Envoy`,
      `${setSecret}, and remove grpc_authentication`,
    );
  } else if (!off && !secret && isTcp(listen.grpc)) {
    // A CA may serve a whole cluster: without names its certificates prove nothing.
    if (listen.grpcTls && listen.grpcTls.clientNames.length === 0)
      found(
        "error",
        "grpc_tls",
        "any certificate of client_ca is taken for Envoy's",
        "name Envoy's certificate in listen.grpc_tls.client_names, or set listen.envoy_secret",
      );
    else if (!listen.grpcTls)
      found("error", "grpc", `whoever reaches ${listen.grpc} is taken for Envoy`, setSecret);
  }
  if (!secret && isTcp(listen.http)) {
    if (!isLoopback(listen.http))
      found("error", "http", `whoever reaches ${listen.http} is taken for Envoy`, setSecret);
    else if (!off)
      found(
        "warning",
        "http",
        "without an envoy_secret the addresses that Envoy forwards are not believed: limits by address count all clients as one",
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
  refused(): void;
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
  if (!isTcp(address) || envoySecrets.length === 0) return { judge: () => "proven", refused };
  const secrets = envoySecrets.map((secret) => Buffer.from(secret, "latin1"));
  return {
    refused,
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
