import type { Logger } from "pino";
import { changeChannel } from "./change-channel.ts";
import type { Listener } from "./listener.ts";
import { notificationHub } from "./notification-hub.ts";
import type { ReopeningPglite } from "./open-pglite.ts";
import type { StoreMetrics } from "./store-metrics.ts";

/** Notifications of the embedded database: same process, no connection that could be lost, so healthy until closed. */
export async function listenEmbedded(
  pglite: ReopeningPglite,
  options: { logger: Logger; metrics?: Pick<StoreMetrics, "storeListenerUp"> },
): Promise<Listener> {
  const hub = notificationHub((error) => options.logger.error({ err: error }, "a change listener failed"));
  await pglite.listen(changeChannel, hub.receive, () => hub.emit({ table: "everything" }));
  options.metrics?.storeListenerUp.set(1);
  let closed = false;
  return {
    subscribe: hub.subscribe,
    healthy: () => !closed && !pglite.closed,
    ready: async () => "hearing",
    close: async () => {
      closed = true;
      options.metrics?.storeListenerUp.set(0);
    },
  };
}
