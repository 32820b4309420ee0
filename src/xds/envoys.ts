import { fetchHoldMs } from "../envoy-config/timeouts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { boundedCache } from "../util/bounded-cache.ts";
import type { Publication } from "./publication.ts";
import type { XdsQuery } from "./query.ts";

/** Envoys that are remembered; beyond it, the least recent one starts over. */
const maxEnvoys = 10_000;
/** An Envoy that has not asked for this long is not counted: it is gone, or asks another sidecar. ms */
const goneMs = fetchHoldMs * 1.5;
/** Streams that are remembered per Envoy: two, and one for each port with routes. */
const maxStreams = 16;
const countEveryMs = 2_000;
/** A repeated request may follow a lost response; from this one on, Envoy has rejected the resources. */
const rejectedAfter = 2;

/** The resources that an Envoy fetches at one place: a type, for routes with the name. */
interface Stream extends Pick<XdsQuery, "type" | "name"> {
  /** In effect at Envoy; empty before its first response. */
  applied: string;
  /** Of the last response with resources. */
  sent?: string;
  /** How often Envoy has asked again without applying `sent`. */
  repeated: number;
}

/** What is known of one Envoy. */
export interface FetchingEnvoy {
  /** Has fetched this version and asks again with the previous one, more than once. */
  hasRejected(query: XdsQuery, version: string): boolean;
  /** Whether it has the clusters that the published routes and listeners need. */
  hasClusters(query: XdsQuery): boolean;
  sent(query: XdsQuery, version: string): void;
  /** Resolves after `ms`, or earlier if there may be something new for it. */
  change(ms: number, ended: AbortSignal): Promise<void>;
}

/** The Envoys that fetch their configuration from this sidecar. */
export interface Envoys {
  /** Notes what an Envoy has, from its request. */
  asks(query: XdsQuery): FetchingEnvoy;
  /** Ends all waits. */
  wake(): void;
  close(): void;
}

/** @param deps.publication wakes the Envoys whenever it changes */
export function createEnvoys(deps: {
  readonly publication: Publication;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, "xdsEnvoys">;
}): Envoys {
  const { publication, logger, metrics } = deps;
  const known = boundedCache<string, ReturnType<typeof createEnvoy>>(maxEnvoys);

  function createEnvoy() {
    const streams = boundedCache<string, Stream>(maxStreams);
    const waiting = new Set<() => void>();
    let seen = performance.now();
    const wake = () => {
      for (const resolve of waiting) resolve();
    };
    const streamOf = (query: XdsQuery): Stream => {
      const key = `${query.type} ${query.name ?? ""}`;
      const stream = streams.get(key) ?? { type: query.type, name: query.name, applied: "", repeated: 0 };
      streams.set(key, stream);
      return stream;
    };
    return {
      wake,
      seen: () => seen,
      isCurrent: () =>
        [...streams.values()].every(({ type, name, applied }) => {
          const current = publication.current(type, name);
          return current === undefined || current.version === applied;
        }),
      asks(query: XdsQuery): void {
        seen = performance.now();
        const stream = streamOf(query);
        const { type, node, address, version } = query;
        if (version !== stream.applied) {
          stream.applied = version;
          if (version !== "")
            logger.info(
              { node, address, resources: type, version },
              version === stream.sent ? applied : takenOver,
            );
          if (type === "clusters") wake();
        }
        stream.repeated = stream.sent === undefined || version === stream.sent ? 0 : stream.repeated + 1;
        if (version === stream.sent) stream.sent = undefined;
        if (stream.repeated === rejectedAfter)
          logger.warn({ node, address, resources: type, version: stream.sent }, notApplied);
      },
      hasRejected(query: XdsQuery, version: string): boolean {
        const { sent, repeated } = streamOf(query);
        return sent === version && repeated >= rejectedAfter;
      },
      hasClusters({ version }: XdsQuery): boolean {
        const clusters = streams.get("clusters ");
        // It may have them from another sidecar, or from its bootstrap.
        if (clusters === undefined) return version === "";
        // At startup it has applied the clusters before it asks for anything else.
        const has = version === "" ? (clusters.sent ?? clusters.applied) : clusters.applied;
        return publication.hasClusters(has);
      },
      sent(query: XdsQuery, version: string): void {
        const stream = streamOf(query);
        if (stream.sent !== version) stream.repeated = 0;
        stream.sent = version;
      },
      change: (ms: number, ended: AbortSignal) =>
        new Promise<void>((resolve) => {
          const done = () => {
            clearTimeout(timer);
            waiting.delete(done);
            ended.removeEventListener("abort", done);
            resolve();
          };
          const timer = setTimeout(done, ms);
          waiting.add(done);
          ended.addEventListener("abort", done);
          if (ended.aborted) done();
        }),
    };
  }

  function wake(): void {
    for (const envoy of known.values()) envoy.wake();
  }

  function count(): void {
    const now = performance.now();
    const envoys = [...known.values()].filter((envoy) => now - envoy.seen() < goneMs);
    const current = envoys.filter((envoy) => envoy.isCurrent()).length;
    metrics.xdsEnvoys.set({ state: "current" }, current);
    metrics.xdsEnvoys.set({ state: "behind" }, envoys.length - current);
  }

  publication.onChange(wake);
  count();
  const counting = setInterval(count, countEveryMs).unref();
  return {
    asks(query) {
      // Envoys that were started with the same node id are told apart by their address.
      const key = `${query.node} ${query.address}`;
      const envoy = known.get(key) ?? createEnvoy();
      known.set(key, envoy);
      envoy.asks(query);
      return envoy;
    },
    wake,
    close() {
      clearInterval(counting);
      wake();
    },
  };
}

const applied = "Envoy applied a new configuration";
const takenOver = "Envoy fetches its configuration from this replica now";
const notApplied = "Envoy does not apply the configuration that it fetched; its own log has the reason";
