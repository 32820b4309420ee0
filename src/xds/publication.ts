import { createHash } from "node:crypto";
import type { Config } from "../config/config.ts";
import { clusterName } from "../envoy-config/clusters.ts";
import { fetched } from "../envoy-config/fleet-bootstrap.ts";
import { type XdsResource, type XdsType, xdsResources, xdsTypeUrls } from "../envoy-config/xds-resources.ts";
import type { Route } from "../model/route.ts";
import { boundedCache } from "../util/bounded-cache.ts";

/** How long the clusters of former routes stay, ms: as long as checks allow a former upstream. */
const formerMs = 60_000;
/** Former routes whose clusters stay; the oldest are dropped. */
const maxFormer = 1_000;
/**
 * How long routes and listeners wait after a change, ms: the other sidecars, which check the requests, learn of it from the database at
 * about the same time, and should have it first.
 */
const settleMs = 300;
/** Versions remembered per type. */
const maxVersions = 1_000;

/** One type of resources at one version, as the response to an Envoy that has another one. */
export interface Published {
  /** A hash of the resources, so that sidecars with the same configuration publish the same version. */
  readonly version: string;
  readonly body: string;
}

/** What this sidecar serves to Envoys that fetch their configuration. */
export interface Publication {
  /**
   * @param name of the route configuration, for routes
   * @returns undefined if there is no route configuration of that name
   */
  current(type: XdsType, name?: string): Published | undefined;
  /** Whether this sidecar publishes or has published this version. */
  isKnown(version: string): boolean;
  /** Whether an Envoy with this version of the clusters has all clusters that the published routes and listeners need. */
  hasClusters(version: string): boolean;
  /** Publishes a changed configuration: its clusters at once, its routes and listeners shortly after. */
  change(config: Config): void;
  /** Calls `listener` after every change of what is published. */
  onChange(listener: () => void): void;
  close(): void;
}

/** Publishes `config` and later its changes. */
export function createPublication(config: Config): Publication {
  const listeners = new Set<() => void>();
  const timers = new Set<NodeJS.Timeout>();
  /** Versions, and for clusters the names of them. */
  const versions = boundedCache<string, ReadonlySet<string>>(maxVersions);
  let latest = config;
  /** Former routes by the name of their cluster, oldest first. */
  const former = new Map<string, { readonly route: Route; readonly until: number }>();
  const first = resourcesOf(config);
  let clusters = publish("clusters", first.clusters);
  let others = publishOthers(first);

  function publish(type: XdsType, resources: readonly XdsResource[]): Published {
    const version = createHash("sha256").update(JSON.stringify(resources)).digest("base64url").slice(0, 16);
    versions.set(version, namesOf(resources));
    const body = JSON.stringify({ version_info: version, resources, type_url: xdsTypeUrls[type] });
    return { version, body };
  }

  function publishOthers({ routes, listeners, clusters }: ReturnType<typeof xdsResources>) {
    return {
      listeners: publish("listeners", listeners),
      routes: new Map(routes.map((route) => [String(route.name), publish("routes", [route])])),
      needs: new Set([...namesOf(clusters)].filter((name) => !former.has(name))),
    };
  }

  /** The configuration's resources; the clusters include those of former routes. */
  function publishClusters() {
    const now = Date.now();
    for (const [name, { until }] of former) if (until <= now) former.delete(name);
    const resources = resourcesOf(
      latest,
      [...former.values()].map(({ route }) => route),
    );
    clusters = publish("clusters", resources.clusters);
    notify();
    return resources;
  }

  function notify(): void {
    for (const listener of listeners) listener();
  }

  function later(ms: number, work: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, ms).unref();
    timers.add(timer);
  }

  return {
    current: (type, name) =>
      type === "clusters"
        ? clusters
        : type === "listeners"
          ? others.listeners
          : others.routes.get(name ?? ""),
    isKnown: (version) => versions.has(version),
    hasClusters(version) {
      const names = versions.get(version);
      return names !== undefined && [...others.needs].every((name) => names.has(name));
    },
    change(next) {
      const until = Date.now() + formerMs;
      const current = new Set(next.routes.map(clusterName));
      for (const name of current) former.delete(name);
      for (const route of latest.routes)
        if (!current.has(clusterName(route))) former.set(clusterName(route), { route, until });
      for (const name of [...former.keys()].slice(0, Math.max(0, former.size - maxFormer)))
        former.delete(name);
      latest = next;
      const resources = publishClusters();
      if (former.size > 0) later(formerMs + 1, publishClusters);
      later(settleMs, () => {
        others = publishOthers(resources);
        notify();
      });
    },
    onChange: (listener) => void listeners.add(listener),
    close() {
      for (const timer of timers) clearTimeout(timer);
      listeners.clear();
    },
  };
}

function resourcesOf(config: Config, former?: readonly Route[]) {
  return xdsResources(config, { routes: () => fetched }, former);
}

function namesOf(resources: readonly XdsResource[]): ReadonlySet<string> {
  return new Set(resources.map(({ name }) => String(name)));
}
