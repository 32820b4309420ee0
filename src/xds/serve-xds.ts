import type { Socket } from "node:net";
import { isTcp } from "../config/listeners.ts";
import type { LiveConfig } from "../config/live-config.ts";
import { healthNoticeMs } from "../server/grpc/health.ts";
import { checkCertificate, listen, maxConnections } from "../server/http/listener.ts";
import { createApp } from "../server/http/public-endpoint.ts";
import { createReadiness } from "../server/http/readiness.ts";
import { peersAt } from "../server/peers.ts";
import { unauthenticatedConnections } from "../server/unauthenticated-connections.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { createDiscovery } from "./discovery.ts";
import { createEnvoys } from "./envoys.ts";
import { createPublication } from "./publication.ts";

/** The listener where Envoys fetch their configuration. */
export interface XdsListener {
  readonly address: string;
  /** Sends Envoys to other sidecars and closes the listener. */
  close(graceMs: number): Promise<void>;
}

/**
 * Serves listeners, routes and clusters on `listen.xds`; undefined without that section. `GET /readyz` answers all callers.
 *
 * @param options.address overrides `listen.xds.address`
 * @throws the error of an address that cannot be bound, or of a certificate that cannot be read.
 */
export async function serveXds(
  { logger, metrics }: { readonly logger: Logger; readonly metrics: Metrics },
  options: { readonly live: Pick<LiveConfig, "current" | "onChange">; readonly address?: string },
): Promise<XdsListener | undefined> {
  const { live } = options;
  const { config } = live.current();
  const { xds } = config.listen;
  if (xds === undefined) return undefined;
  const address = options.address ?? xds.address;
  if (!isTcp(address)) throw new Error(`${address} is not host:port, which --listen-xds must be`);
  checkCertificate("listen.xds", xds);
  const publication = createPublication(config);
  const unsubscribe = live.onChange((table) => publication.change(table.config));
  const envoys = createEnvoys({ publication, logger, metrics });
  const readiness = createReadiness();
  const unproven = unauthenticatedConnections<Socket>(maxConnections / 2, (socket) => socket.destroy());
  const discovery = createDiscovery({
    publication,
    envoys,
    metrics,
    peers: peersAt("xds", address, { envoySecrets: xds.secrets }, { logger, metrics }),
    onProven: unproven.remove,
  });
  const app = createApp(logger);
  app.use(readiness.middleware).use(discovery.middleware);
  const server = await listen(app, address, { config, metrics, unproven, tls: xds });
  return {
    address: server.address,
    async close(graceMs) {
      unsubscribe();
      discovery.release();
      await readiness.drain(healthNoticeMs);
      await server.close(graceMs);
      envoys.close();
      publication.close();
    },
  };
}
