import type { Socket } from "node:net";
import type { Context, Middleware } from "koa";
import { xdsSecretHeader } from "../config/fleet.ts";
import type { PeerAuthentication } from "../config/listeners.ts";
import { fetchHoldMs } from "../envoy-config/timeouts.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Envoys, FetchingEnvoy } from "./envoys.ts";
import type { Publication, Published } from "./publication.ts";
import { readQuery, requestedType, type XdsQuery } from "./query.ts";

/** How long Envoys wait at most, ms. */
interface Waits {
  /** With the current version. */
  readonly unchanged: number;
  /** With an unknown version: it may come from a sidecar that has learned of a change earlier. */
  readonly unknownVersion: number;
  /** For routes and listeners, until Envoy has applied the clusters that they need. */
  readonly clustersFirst: number;
  /** Before resources are sent again that Envoy has rejected. */
  readonly rejected: number;
}
const defaultWaits: Waits = {
  unchanged: fetchHoldMs,
  unknownVersion: 1_000,
  clustersFirst: 2_000,
  rejected: 2_000,
};

/** Serves resources to Envoys over xDS's REST protocol. */
export interface Discovery {
  readonly middleware: Middleware;
  /** Answers the requests that are held, and holds no more. */
  release(): void;
}

/**
 * Answers `POST /v3/discovery:clusters`, `:routes` and `:listeners` of authenticated Envoys. A request with the current version is held
 * until there is a newer one, for at most ten seconds, and then answered with 304. Routes and listeners wait until Envoy has applied the
 * clusters that they need.
 */
export function createDiscovery(deps: {
  readonly publication: Publication;
  readonly envoys: Envoys;
  readonly peers: PeerAuthentication;
  readonly metrics: Pick<Metrics, "xdsResponses">;
  /** Called with each connection of an authenticated Envoy. */
  readonly onProven: (connection: Socket) => void;
  readonly waits?: Waits;
}): Discovery {
  const { publication, envoys, peers, metrics, onProven, waits = defaultWaits } = deps;
  let released = false;

  /** How long `query` must wait for `next`, ms; 0: not at all. */
  function pause(query: XdsQuery, envoy: FetchingEnvoy, next: Published, waited: number): number {
    const { type, version } = query;
    if (version !== "" && !publication.isKnown(version) && waited < waits.unknownVersion)
      return waits.unknownVersion - waited;
    if (envoy.hasRejected(query, next.version) && waited < waits.rejected) return waits.rejected - waited;
    if (type !== "clusters" && !envoy.hasClusters(query) && waited < waits.clustersFirst)
      return waits.clustersFirst - waited;
    return 0;
  }

  /** Newer resources than those that Envoy has; undefined if there are none in time. */
  async function newer(
    query: XdsQuery,
    envoy: FetchingEnvoy,
    ended: AbortSignal,
  ): Promise<Published | undefined> {
    const start = performance.now();
    let differs: { readonly version: string; readonly since: number } | undefined;
    while (!ended.aborted) {
      const now = performance.now();
      const next = publication.current(query.type, query.name);
      let ms = start + waits.unchanged - now;
      if (next !== undefined && next.version !== query.version) {
        if (differs?.version !== next.version) differs = { version: next.version, since: now };
        ms = Math.ceil(pause(query, envoy, next, now - differs.since));
        if (ms === 0) return next;
      }
      if (ms <= 0 || released) return undefined;
      await envoy.change(ms, ended);
    }
    return undefined;
  }

  async function answer(ctx: Context, query: XdsQuery): Promise<void> {
    const envoy = envoys.asks(query);
    const ended = new AbortController();
    ctx.res.once("close", () => ended.abort());
    const found = await newer(query, envoy, ended.signal);
    const outcome = found === undefined ? "unchanged" : "changed";
    metrics.xdsResponses.inc({ type: query.type, outcome });
    if (found === undefined) {
      ctx.status = 304;
      return;
    }
    envoy.sent(query, found.version);
    ctx.type = "application/json";
    ctx.body = found.body;
  }

  return {
    async middleware(ctx) {
      ctx.set("cache-control", "no-store");
      const type = requestedType(ctx.path);
      // Before anything of the body is read.
      if (peers.verify(ctx.req.headers[xdsSecretHeader]) !== "proven") {
        peers.rejected();
        ctx.set("connection", "close");
        ctx.status = 403;
        ctx.body = { error: "forbidden", error_description: "the secret of listen.xds is missing or wrong" };
        return;
      }
      onProven(ctx.req.socket);
      if (type === undefined || ctx.method !== "POST") {
        ctx.status = 404;
        ctx.body = {
          error: "not_found",
          error_description: "POST /v3/discovery:listeners, :routes or :clusters",
        };
        return;
      }
      try {
        await answer(ctx, await readQuery(ctx, type));
      } catch (error) {
        if (!(error instanceof Error && "expose" in error && error.expose && "status" in error)) throw error;
        metrics.xdsResponses.inc({ type, outcome: "invalid" });
        ctx.set("connection", "close");
        ctx.status = Number(error.status);
        ctx.body = { error: "invalid_request", error_description: error.message };
      }
    },
    release() {
      released = true;
      envoys.wake();
    },
  };
}
