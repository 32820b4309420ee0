import type { LiveConfig } from "../config/live-config.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../telemetry/logger.ts";
import { serialized } from "../util/single-flight.ts";

/** Keeps this process's routes in sync with the database. */
export interface StoredRoutesFollower {
  /** Resolves once this process serves the routes that are in the database now. */
  refresh(): Promise<void>;
  close(): void;
}

/** The pause before a failed reload is repeated, ms: it doubles with every failure. */
const firstRetryMs = 1_000;
const maxRetryMs = 60_000;

/**
 * Loads the stored routes and follows every change by any replica. If a later read fails, the routes in force stay, and it is repeated.
 * @throws StoreUnavailable when the first read fails: serving without the routes would answer 404.
 */
export async function followStoredRoutes(deps: {
  readonly store: Pick<Store, "storedRoutes" | "notifications">;
  readonly live: Pick<LiveConfig, "setStoredRoutes" | "storedProblems" | "withoutCredential">;
  readonly logger: Logger;
}): Promise<StoredRoutesFollower> {
  const { store, live, logger } = deps;
  let inForce = "[[],[],[]]";
  let retry: NodeJS.Timeout | undefined;
  let retryMs = firstRetryMs;
  let started = false;
  let closed = false;

  async function load(): Promise<void> {
    const { routes, unreadable, rejected } = await store.storedRoutes.listAll();
    const seen = JSON.stringify([
      routes.map(({ id, version }) => [id, version]),
      unreadable,
      rejected.map(({ id }) => id),
    ]);
    if (seen === inForce) return;
    live.setStoredRoutes(routes, { unreadable, rejected });
    inForce = seen;
    for (const [route, problems] of live.storedProblems())
      logger.error({ route, problems: problems.map(({ path, message }) => ({ path, message })) }, notInForce);
    for (const [route, problems] of live.withoutCredential())
      logger.error(
        { route, problems: problems.map(({ path, message, fix }) => ({ path, message, fix })) },
        "the credential of a stored route is missing",
      );
  }
  const refresh = serialized(async () => {
    clearTimeout(retry);
    try {
      await load();
      retryMs = firstRetryMs;
    } catch (error) {
      if (started) retryLater();
      throw error;
    }
  });

  function follow(): void {
    refresh().catch((error: Error) =>
      logger.warn({ reason: error.message }, "reloading the stored routes failed"),
    );
  }
  /** Nothing notifies when the database or a key service answers again. */
  function retryLater(): void {
    if (closed) return;
    retry = setTimeout(follow, retryMs);
    retry.unref();
    retryMs = Math.min(2 * retryMs, maxRetryMs);
  }

  const unsubscribe = store.notifications.subscribe(({ table }) => {
    if (table === "stored_route" || table === "everything") follow();
  });
  try {
    await refresh();
  } catch (error) {
    unsubscribe();
    throw error;
  }
  started = true;
  return {
    refresh,
    close() {
      closed = true;
      clearTimeout(retry);
      unsubscribe();
    },
  };
}

const notInForce = "a stored route is not in force";
