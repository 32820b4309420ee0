/** A load balancer that asked this long ago is taken to have stopped asking, ms. */
export const askersMs = 15_000;

/**
 * How long whoever is draining waits for load balancers to hear of it, ms: some rounds of the health checks that
 * `sidecar-cluster.ts` writes. Those that ask more seldom find out by themselves.
 */
export const healthNoticeMs = 3_000;

/**
 * How long a load balancer that has heard may still send requests, ms: Envoy tells its workers of a change only when a
 * second has gone by since the one before (`update_merge_window`, which is 1 s in configurations that are not ours).
 */
export const healthSpreadMs = 1_200;
