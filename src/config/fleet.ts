import type { Config } from "./config.ts";
import { isTcp } from "./listeners.ts";
import type { Reporter } from "./reporter.ts";

/** The HTTP header in which an Envoy that fetches its configuration sends a secret of `listen.xds`. */
export const xdsSecretHeader = "x-mcp-auth-xds-secret";

/** Checks `listen.xds` and `envoy.sidecar.xds`: a separate credential, and addresses that other machines reach. */
export function checkFleet({ listen, envoy }: Config, reporter: Pick<Reporter, "error" | "warn">): void {
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
