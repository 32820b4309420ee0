import { isBelowUpstream } from "../config/paths.ts";
import type { ConnectionKey } from "../model/connection.ts";
import type { RouteUpstream } from "../store/orphaned-upstreams.ts";
import { mapAtOnce } from "../util/at-once.ts";
import type { UpstreamTokensDeps } from "./upstream-tokens.ts";

/** A route that was removed by mistake keeps its connections for this time, seconds. */
const defaultGraceSeconds = 86_400;
/** How often connections are searched for upstreams that no route has, if no route changes, ms. */
const searchEveryMs = 3_600_000;
/** How long connections are ended without a pause, ms. */
const endForMs = 4 * 60_000;
/** Connections per statement, and at a time: each may take requests to its authorization server. */
const batch = 200;
const atOnce = 10;
/** Upstreams per statement. */
const pageSize = 500;
/** After every upstream of a route, in byte order. */
const last = "\u{10ffff}";

/** Ends connections whose route was removed. */
export interface Orphans {
  /**
   * Keeps the connections of this replica's routes, whatever other replicas have; and if no other replica does so, finds upstreams that no
   * route has and ends their connections after the grace period. Returns how many were ended.
   */
  end(): Promise<number>;
}

/** @param endConnection ends one connection; false: there was none */
export function createOrphans(
  { store, routes, logger, orphanGraceSeconds }: UpstreamTokensDeps,
  endConnection: (key: ConnectionKey) => Promise<boolean>,
): Orphans {
  const { orphanedUpstreams, backgroundWork } = store;
  let known = routes().fingerprint();
  let changedAt = Number.NEGATIVE_INFINITY;

  function isKnown({ routeId, upstream }: RouteUpstream): boolean {
    const table = routes();
    // A route that cannot be used has not been removed.
    if (table.reservedById(routeId)) return true;
    const route = table.byId(routeId);
    return route !== undefined && (route.upstream === upstream || isBelowUpstream(route, upstream));
  }

  function isRemoved(routeId: string): boolean {
    const table = routes();
    return table.byId(routeId) === undefined && table.reservedById(routeId) === undefined;
  }

  /** What follows a page: users name endpoints, so one route may have many upstreams, all known, or all unknown. */
  function next(page: readonly RouteUpstream[]): RouteUpstream | undefined {
    const end = page.at(-1);
    if (page.length < pageSize || !end) return undefined;
    const route = routes().byId(end.routeId);
    if (route && isBelowUpstream(route, end.upstream) && !route.upstream.includes("?"))
      // "0" follows "/".
      return { ...end, upstream: `${route.upstream.replace(/\/$/, "")}0` };
    return end;
  }

  /** The upstreams of a paged list. */
  async function* pages(
    list: (after: RouteUpstream | undefined, limit: number) => Promise<RouteUpstream[]>,
  ): AsyncGenerator<RouteUpstream[], void, void> {
    for (let after: RouteUpstream | undefined, first = true; first || after; first = false) {
      const page = await list(after, pageSize);
      yield page;
      after = next(page);
    }
  }

  /** Every replica does this: another one may not have its routes. */
  async function keepOwn(): Promise<void> {
    let after: RouteUpstream | undefined;
    do {
      const page = await orphanedUpstreams.list(after, pageSize);
      await orphanedUpstreams.remove(page.filter(isKnown));
      const end = page.length === pageSize ? page.at(-1) : undefined;
      // Of a removed route, one is enough.
      after = end && isRemoved(end.routeId) ? { ...end, upstream: last } : end;
    } while (after);
  }

  async function search(signal: AbortSignal): Promise<void> {
    for await (const page of pages(orphanedUpstreams.connected)) {
      await orphanedUpstreams.add(page.filter((upstream) => !isKnown(upstream)));
      if (signal.aborted) return;
    }
  }

  /** Replicas of an earlier version end connections that they have marked, if nobody clears the mark. */
  async function keepMarked(signal: AbortSignal): Promise<void> {
    for await (const page of pages(orphanedUpstreams.marked)) {
      for (const upstream of page.filter(isKnown))
        for (let cleared = pageSize; cleared === pageSize && !signal.aborted; )
          cleared = await orphanedUpstreams.unmark(upstream, pageSize);
      if (signal.aborted) return;
    }
  }

  async function endAll(signal: AbortSignal): Promise<number> {
    const until = performance.now() + endForMs;
    const enough = () => signal.aborted || performance.now() > until;
    let ended = 0;
    while (!enough()) {
      const found = await orphanedUpstreams.connections(orphanGraceSeconds ?? defaultGraceSeconds, batch);
      // The routes may just have changed.
      await orphanedUpstreams.remove(found.filter(isKnown));
      let failed = 0;
      const orphans = found.filter((key) => !isKnown(key));
      await mapAtOnce(
        orphans,
        atOnce,
        async (key) => {
          try {
            if (await endConnection(key)) ended++;
          } catch (error) {
            failed++;
            logger.warn({ err: error, route: key.routeId }, "ending a connection of a removed route failed");
          }
        },
        enough,
      );
      // What fails is found again.
      if (orphans.length === failed) break;
    }
    return ended;
  }

  return {
    async end() {
      const own = routes().fingerprint();
      if (own !== known) [known, changedAt] = [own, performance.now()];
      await keepOwn();
      // Once after each change, on any of the replicas that have these routes.
      const everyMs = Math.min(searchEveryMs, performance.now() - changedAt);
      await backgroundWork.run(`orphan_search ${own}`, everyMs, search);
      await backgroundWork.run(`orphan_marks ${own}`, 0, keepMarked);
      return (await backgroundWork.run("orphans", 0, endAll)) ?? 0;
    },
  };
}
