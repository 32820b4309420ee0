import type { LiveConfig } from "../config/live-config.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";

/** Keeps the routes in force up to date with the database's. */
export interface StoredRoutesFollower {
  /** Resolves once the routes as they stand in the database now are in force here. */
  refresh(): Promise<void>;
  close(): void;
}

/**
 * Takes up the database's routes, and every change of them on any replica.
 * @throws StoreUnavailable when they cannot be read at first: serving without them would answer 404.
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
  // One after the other: an older list must not come in over a newer one.
  function refresh(): Promise<void> {
    const done = queue.then(load);
    queue = done.catch(() => {});
    return done;
  }

  const unsubscribe = store.notifications.subscribe(({ table }) => {
    if (table !== "stored_route" && table !== "everything") return;
    refresh().catch((error: Error) =>
      logger.warn({ reason: error.message }, "routes of the database could not be read again"),
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

const notInForce = "a route of the database is not in force";
