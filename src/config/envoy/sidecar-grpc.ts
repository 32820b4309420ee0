import type { Config } from "../config.ts";
import { isTcp } from "../listener-faults.ts";
import { envoySecretHeader } from "../peer-authentication.ts";
import type { Json } from "./json.ts";

/**
 * The `grpc_service` of every filter that calls us: which cluster, and what proves to us that Envoy is calling. Whatever else it
 * needs (timeout, retries) goes beside.
 */
export function sidecarGrpc(config: Config): { readonly [key: string]: Json } {
  const [secret] = config.envoy.sidecar.grpc.some(isTcp) ? config.listen.envoySecrets : [];
  return {
    envoy_grpc: { cluster_name: "sidecar_grpc" },
    ...(secret === undefined ? {} : { initial_metadata: [{ key: envoySecretHeader, value: secret }] }),
  };
}
