import type { Config } from "./config.ts";
import { isTcp } from "./listeners.ts";
import type { Reporter } from "./reporter.ts";

/** The HTTP header in which an Envoy that fetches its configuration sends a secret of `listen.xds`. */
export const xdsSecretHeader = "x-mcp-auth-xds-secret";

/** Checks what Envoys on other machines need: TLS on both sides, a separate credential, and addresses that they reach. */
export function checkFleet({ listen, envoy }: Config, reporter: Pick<Reporter, "error" | "warn">): void {
  if (listen.httpTls === undefined && envoy.sidecar.httpTls !== undefined)
    reporter.error(
      ["envoy", "sidecar", "http_tls"],
      "the sidecar does not use TLS on its HTTP port: Envoy could not connect",
      "add listen.http_tls, or remove this",
      "key",
    );
  if (listen.httpTls !== undefined && envoy.sidecar.httpTls === undefined)
    reporter.warn(
      ["listen", "http_tls"],
      "the generated Envoy configuration does not use TLS to the HTTP port, and could not connect",
      "add envoy.sidecar.http_tls with the CA and the name of this certificate",
      "key",
    );
  if (listen.xds === undefined) {
    if (envoy.sidecar.xds !== undefined)
      reporter.error(
        ["envoy", "sidecar", "xds"],
        "the sidecar does not serve Envoy's configuration",
        "add listen.xds (docs/fleet.md), or remove this",
        "key",
      );
    return;
  }
  if (listen.xds.secrets.some((secret) => listen.envoySecrets.includes(secret)))
    reporter.error(
      ["listen", "xds", "secret"],
      "this is a value of listen.envoy_secret: a party that knows one of them could use it as the other",
      "generate a separate one: openssl rand -base64 33",
    );
  for (const key of ["grpc_tls", "http_tls"] as const)
    if ((key === "grpc_tls" ? listen.grpcTls : listen.httpTls) === undefined)
      reporter.warn(
        ["listen", key],
        "Envoys on other machines send tokens and cookies to this port in clear text",
        `set listen.${key} and envoy.sidecar.${key}, unless the network is encrypted (docs/fleet.md)`,
        "key",
      );
  for (const key of ["grpc", "http"] as const) {
    const socket = envoy.sidecar[key].find((address) => !isTcp(address));
    if (socket !== undefined)
      reporter.warn(
        ["envoy", "sidecar", key],
        `Envoys on other machines cannot reach ${socket}`,
        `list the sidecars' addresses in envoy.sidecar.${key} as host:port`,
      );
  }
}
