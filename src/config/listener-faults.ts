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
