import type { Config } from "./config.ts";

/**
 * Keys that are read at startup only, with what they are compared by. All other keys take effect when the file is reloaded.
 * docs/configuration.md lists them.
 */
export const restartKeys: Readonly<Record<string, (config: Config) => unknown>> = {
  "listen.grpc": ({ listen }) => listen.grpc,
  "listen.http": ({ listen }) => listen.http,
  "listen.admin": ({ listen }) => listen.admin,
  "listen.envoy_secret": ({ listen }) => listen.envoySecrets,
  "listen.grpc_authentication": ({ listen }) => listen.grpcAuthentication,
  "listen.socket_mode": ({ listen }) => listen.socketMode,
  "listen.grpc_tls": ({ listen }) => listen.grpcTls,
  "listen.http_tls": ({ listen }) => listen.httpTls,
  "listen.admin_tls": ({ listen }) => listen.adminTls,
  "listen.xds": ({ listen }) => listen.xds,
  workers: ({ workers }) => workers,
  "database.url": ({ database }) => database.url,
  "database.listen_url": ({ database }) => database.listenUrl,
  "database.tls": ({ database }) => database.tls,
  "database.tls_ca": ({ database }) => database.tlsCa,
  "database.dir": ({ database }) => database.dir,
  "encryption.keys": ({ encryption }) => encryption.keys,
  "paths.prefix": ({ paths }) => paths.prefix,
  "check.max_header_bytes": ({ check }) => check.maxHeaderBytes,
  "limits.cache_entries": ({ limits }) => limits.cacheEntries,
  "limits.metadata_cache_entries": ({ limits }) => limits.metadataCacheEntries,
  "limits.token_cache_bytes": ({ limits }) => limits.tokenCacheBytes,
  "audit.retention": ({ audit }) => audit.retention,
  "audit.export.http": ({ audit }) => audit.http,
};

/**
 * A reloaded configuration as it may take effect: what is read at startup only keeps its previous value everywhere, so that no two
 * components have different ones.
 * @param before the configuration in effect, with the values from startup
 * @returns it, and the keys that differ and wait for a restart
 */
export function untilRestart(
  before: Config,
  loaded: Config,
): { readonly config: Config; readonly needsRestart: readonly string[] } {
  const needsRestart = Object.entries(restartKeys)
    .filter(([, value]) => differs(value(before), value(loaded)))
    .map(([key]) => key);
  // The clients of these key services read it once; all other requests use the new value.
  const usesProxies = before.encryption.keys.some((key) => "awsKms" in key || "googleKms" in key);
  if (usesProxies && differs(before.upstreamOAuth.proxies, loaded.upstreamOAuth.proxies))
    needsRestart.push("egress");
  const { listen, workers, database, encryption, paths, audit } = before;
  const { cacheEntries, metadataCacheEntries, tokenCacheBytes } = before.limits;
  // `envoy.sidecar` follows from `listen` and `workers`.
  const moved = needsRestart.some((key) => key === "workers" || key.startsWith("listen."));
  const sidecar = (moved ? before : loaded).envoy.sidecar;
  return {
    config: {
      ...loaded,
      ...{ listen, workers, database, encryption, paths, audit },
      check: { ...loaded.check, maxHeaderBytes: before.check.maxHeaderBytes },
      limits: { ...loaded.limits, cacheEntries, metadataCacheEntries, tokenCacheBytes },
      envoy: { ...loaded.envoy, sidecar },
    },
    needsRestart,
  };
}

function differs(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) !== JSON.stringify(other);
}
