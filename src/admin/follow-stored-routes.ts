import type { LiveConfig } from "../config/live-config.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";

/** Keeps this process's routes in sync with the database. */
export interface StoredRoutesFollower {
  /** Resolves once this process serves the routes that are in the database now. */
  refresh(): Promise<void>;
  close(): void;
}

/**
 * Loads the stored routes and follows every change by any replica.
 * @throws StoreUnavailable when the first read fails: serving without the routes would answer 404.
 */
export async function followStoredRoutes(deps: {
  readonly store: Pick<Store, "storedRoutes" | "notifications">;
  readonly live: Pick<LiveConfig, "setStoredRoutes" | "storedProblems">;
  readonly logger: Logger;
}): Promise<StoredRoutesFollower> {
  const { store, live, logger } = deps;
  let inForce = "[]";
  let queue: Promise<void> = Promise.resolve();

  async function load(): Promise<void> {
    const routes = await store.storedRoutes.list();
    const seen = JSON.stringify(routes.map(({ id, version }) => [id, version]));
    if (seen === inForce) return;
    live.setStoredRoutes(routes);
    inForce = seen;
    for (const [route, problems] of live.storedProblems())
      logger.error({ route, problems: problems.map(({ path, message }) => ({ path, message })) }, notInForce);
  }
  // Serialized: an older list must not replace a newer one.
  function refresh(): Promise<void> {
    const done = queue.then(load);
    queue = done.catch(() => {});
    return done;
  }

  const unsubscribe = store.notifications.subscribe(({ table }) => {
    if (table !== "stored_route" && table !== "everything") return;
    refresh().catch((error: Error) =>
      logger.warn({ reason: error.message }, "reloading the stored routes failed"),
    );
  });
  try {
    await refresh();
  } catch (error) {
    unsubscribe();
    throw error;
  }
  return { refresh, close: unsubscribe };
}

const notInForce = "a stored route is not in force";
