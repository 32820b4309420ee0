import type { Socket } from "node:net";
import { hostname } from "node:os";
import type Koa from "koa";
import { createAdminApi } from "./admin/admin-api.ts";
import { followStoredRoutes } from "./admin/follow-stored-routes.ts";
import { createAdminPage } from "./admin/page/admin-page.ts";
import { createCodePage } from "./admin/page/code-page.ts";
import { createPeopleRoles } from "./admin/people-roles.ts";
import { keepAuditRecord } from "./audit-trail/audit-record.ts";
import { type Components, compose } from "./compose.ts";
import { databaseExposure } from "./config/database.ts";
import { isTcp, type PeerAuthentication } from "./config/listeners.ts";
import { createLiveConfig, type LiveConfig } from "./config/live-config.ts";
import { workerAddress } from "./config/workers.ts";
import { proxyEnvironment } from "./egress/proxies.ts";
import { createTrustedFetch } from "./egress/safe-fetch.ts";
import { writeXdsDir } from "./envoy-config/bootstrap.ts";
import { createCheckService, createDenialAudit } from "./ext-authz/check-service.ts";
import { createExternalProcessor, maxWatchedStreams } from "./ext-proc/processor.ts";
import { createGrpcServer } from "./server/grpc/grpc-server.ts";
import { healthNoticeMs } from "./server/grpc/health.ts";
import { limitBodies, limitRequests } from "./server/http/limits.ts";
import { listen, maxConnections } from "./server/http/listener.ts";
import { createApp, envoyOnly, publicEndpoint } from "./server/http/public-endpoint.ts";
import { createHealthRouter, createReadiness, type Readiness } from "./server/http/readiness.ts";
import { peersAt } from "./server/peers.ts";
import { unauthenticatedConnections } from "./server/unauthenticated-connections.ts";
import { migrateOldRecord } from "./sign-in/providers.ts";
import { loadKeyEncryptionKeys } from "./store/encryption/load-keys.ts";
import { openStore } from "./store/open-store.ts";
import { createLogger, type Logger } from "./telemetry/logger.ts";
import { createMetrics } from "./telemetry/metrics.ts";
import { createRecentProblems, type RecentProblems } from "./telemetry/recent-problems.ts";
import { inSpan, startTracing, type Tracing, tracedHttp, tracedService } from "./telemetry/tracing.ts";
import { reportUnhandledRejections } from "./telemetry/unhandled-rejections.ts";
import { productVersion } from "./util/package.ts";
import { collectStartupGarbage } from "./workers/heap-shape.ts";
import type { Worker } from "./workers/worker.ts";
import { serveXds } from "./xds/serve-xds.ts";

/** How long calls in progress may take after SIGTERM, ms. */
const drainMs = 10_000;
/** How often expired rows are removed, ms. */
const housekeepingMs = 5 * 60_000;

/** A running gateway and its bound addresses. */
export interface Sidecar {
  readonly grpc: string;
  readonly http: string;
  readonly admin: string;
  /** Where Envoys fetch their configuration; absent: nowhere. */
  readonly xds?: string;
  /**
   * Rejects new requests, drains those in progress and closes the store.
   * @param replaced another process serves the same addresses already, including the private port
   */
  close(options?: { readonly replaced?: boolean }): Promise<void>;
}

interface ServeOptions {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Directory of the xDS files for a running Envoy; rewritten on every change of the routes. */
  readonly xdsDir?: string;
  /** Overrides the addresses of the routes file, so that several processes on one machine can share it. */
  readonly listen?: {
    readonly grpc?: string;
    readonly http?: string;
    readonly admin?: string;
    readonly xds?: string;
  };
  /** Overrides `workers` of the routes file, in Envoy's configuration, too. */
  readonly workers?: number;
  /** This process is one of several workers; default: it is alone. */
  readonly worker?: Worker;
}

/**
 * Composes all components from the routes file, binds the three listeners and schedules recurring work. Nothing is served before
 * everything is ready.
 * @throws InvalidConfig, StoreMisconfigured, StoreUnavailable, UnusableSetting
 */
export async function serve(options: ServeOptions): Promise<Sidecar> {
  const { listen: own = {}, worker } = options;
  const foundation = await openFoundation(options);
  const { live, store, logger, metrics, tracing, storedRoutes } = foundation;
  const { config } = live.current();
  const stopReporting = reportUnhandledRejections({ logger, metrics });
  worker?.measures(metrics.registry);
  // One worker configures Envoy for all of them: an Envoy takes its whole configuration from one process.
  const configuresEnvoy = worker === undefined || worker.number === 1;
  if (options.xdsDir !== undefined && configuresEnvoy) keepXdsFiles(options.xdsDir, live, logger);
  const components = await compose(foundation);
  reportReloads(live, components, logger);

  const place = worker?.number ?? 1;
  const shared = worker?.replaces;
  const address = {
    grpc: workerAddress(own.grpc ?? config.listen.grpc, place),
    http: workerAddress(own.http ?? config.listen.http, place),
    admin: own.admin ?? config.listen.admin,
  };
  const grpcPeers = peersAt("grpc", address.grpc, config.listen, components);
  if (config.listen.grpcAuthentication === "none")
    logger.warn(
      { address: address.grpc },
      "grpc_authentication is none: any caller that reaches this address is treated as Envoy",
    );
  const services = [
    createCheckService({
      ...components,
      peers: grpcPeers,
      onDenial: createDenialAudit({ store, logger }),
    }),
    createExternalProcessor({ ...components, peers: grpcPeers, maxWatchedStreams }),
  ];
  const readiness = createReadiness();
  const unproven = unauthenticatedConnections<Socket>(maxConnections / 2, (socket) => socket.destroy());
  let accepting = true;
  const publicApp = createPublicApp(components, readiness, tracing, {
    peers: peersAt("http", address.http, config.listen, components),
    trustForwarded: !isTcp(address.http) || config.listen.envoySecrets.length > 0,
    onProven: unproven.remove,
  });
  const privateApp = createPrivateApp(components, {
    ...{ live, refresh: storedRoutes.refresh, recentProblems: foundation.recentProblems },
    accepting: () => accepting,
    metricsOfAll: worker?.metricsOfAll,
  });

  collectStartupGarbage();
  const grpc = await createGrpcServer({
    listen: address.grpc,
    services: services.map((one) => (tracing ? tracedService(one, tracing.tracer) : one)),
    peers: grpcPeers,
    tls: config.listen.grpcTls,
    socketMode: config.listen.socketMode,
    shared,
  });
  const tls = config.listen.httpTls;
  const http = await listen(publicApp, address.http, {
    ...{ setting: "listen.http", config, metrics, unproven, tls, shared },
  });
  const admin = await listen(privateApp, address.admin, {
    ...{ setting: "listen.admin", config, metrics, tls: config.listen.adminTls },
    // All workers serve it: the kernel gives a connection to one of them.
    shared: worker !== undefined,
  });
  const xds = configuresEnvoy ? await serveXds(components, { live, address: own.xds }) : undefined;
  const housekeeping = scheduleHousekeeping(components);
  const auditRecord = keepAuditRecord({
    ...{ store, logger, metrics, keys: components.keys },
    retentionDays: config.audit.retention / 86_400,
    ...{ destination: config.audit.http, issuer: config.issuer },
    // The body of an answer is of no use: a collector must not be able to keep a request open with it.
    fetch: createTrustedFetch({ limits: () => live.current().config.upstreamOAuth, body: "discard" }),
  });
  const stopReportingReplica = reportReplica(components);
  store.indexes.buildInBackground();
  logger.info(
    {
      ...{ grpc: grpc.address, http: http.address, admin: admin.address, xds: xds?.address },
      routes: config.routes.length,
    },
    "ready",
  );

  return {
    grpc: grpc.address,
    http: http.address,
    admin: admin.address,
    xds: xds?.address,
    async close({ replaced = false } = {}) {
      // Of two processes at the private port, the one that serves answers from now on.
      const adminClosed = replaced ? admin.close(drainMs) : undefined;
      accepting = false;
      grpc.setServing(false);
      clearInterval(housekeeping);
      // Not before draining starts: load balancers must notice at once, also while the database does not answer.
      const unreported = stopReportingReplica();
      await Promise.all([
        grpc.drain(drainMs),
        readiness.drain(healthNoticeMs).then(() => {
          components.aggregation.drain();
          return http.close(drainMs);
        }),
        xds?.close(drainMs),
      ]);
      await (adminClosed ?? admin.close(0));
      await Promise.all([unreported, auditRecord.close()]);
      await components.close();
      storedRoutes.close();
      live.close();
      await store.close();
      // An unreachable collector must not delay the exit.
      await tracing?.close().catch((error: Error) => logger.debug({ reason: error.message }, "traces lost"));
      stopReporting();
      logger.info("stopped");
    },
  };
}

/** Reads the configuration and opens what the components depend on: logger, metrics, traces, the store. */
async function openFoundation({ file, env, listen: listeners = {}, workers, worker }: ServeOptions) {
  const metrics = createMetrics({ process: true });
  const tracing = await startTracing(env);
  const live = createLiveConfig({ file, env, metrics, listeners, workers });
  const routes = live.current;
  const { config } = routes();
  const recentProblems = createRecentProblems();
  const logger = createLogger({
    problems: recentProblems,
    level: config.log.level,
    linesPerMinute: () => routes().config.limits.logLines,
    onDrop: () => metrics.limitsReached.inc({ limit: "log_lines" }),
    worker: worker?.number,
  });
  live.onChange((table) => {
    logger.level = table.config.log.level;
  });
  live.onProblem((problem) =>
    logger.error({ problem }, "the routes file was rejected; the previous one stays in force"),
  );
  for (const url of [config.database.url, config.database.listenUrl]) {
    const exposure = url === undefined ? undefined : databaseExposure(url, config.database.tls);
    if (exposure) logger.warn(`${exposure}; set database.tls: verify-full`);
  }
  const trustedFetch = createTrustedFetch({ limits: () => routes().config.upstreamOAuth });
  const store = await openStore({
    ...config.database,
    keys: await loadKeyEncryptionKeys(config.encryption.keys, {
      env,
      embeddedDir: config.database.url === undefined ? config.database.dir : undefined,
      fetch: trustedFetch,
      proxyEnv: proxyEnvironment(config.upstreamOAuth.proxies),
    }),
    logger,
    metrics,
    inSpan,
    migratePerson: (record) => migrateOldRecord(record, routes().config.signIn.providers),
  });
  const storedRoutes = await followStoredRoutes({ store, live, logger });
  const onRoutesChanged = live.onChange;
  return {
    ...{ live, routes, onRoutesChanged, store, logger, metrics, tracing, trustedFetch, storedRoutes },
    recentProblems,
    sharedLimits: worker?.limits,
  };
}

/** Writes Envoy's files now and on every change of the routes. */
function keepXdsFiles(xdsDir: string, live: LiveConfig, logger: Logger): void {
  let written = live.current().config;
  writeXdsDir(written, xdsDir);
  live.onChange((table) => {
    try {
      writeXdsDir(table.config, xdsDir, written);
      written = table.config;
    } catch (error) {
      logger.error(
        { err: error, xdsDir },
        "writing Envoy's files failed; Envoy keeps using the previous ones",
      );
    }
  });
}

/** Logs reloads of the routes file, and broken policy rules now and on each reload. */
function reportReloads(live: LiveConfig, { policies }: Pick<Components, "policies">, logger: Logger): void {
  const reportBrokenRules = () => {
    for (const problem of policies().problems)
      logger.error(problem, "a policy rule is invalid; its route denies all requests");
  };
  reportBrokenRules();
  live.onChange((_table, needsRestart) => {
    if (needsRestart.length === 0) logger.info("the routes file was reloaded");
    else
      logger.warn(
        { needsRestart },
        "the routes file was reloaded; the settings in needsRestart keep their previous values until a restart",
      );
    reportBrokenRules();
  });
}

/** The public listener, behind Envoy: readiness, and the endpoints for MCP clients, browsers and authorization servers. */
function createPublicApp(
  components: Components,
  readiness: Readiness,
  tracing: Tracing | undefined,
  envoy: {
    readonly peers: PeerAuthentication;
    readonly trustForwarded: boolean;
    readonly onProven: (connection: Socket) => void;
  },
): Koa {
  const { routes, logger, metrics, signIn, portal, authorizationServer, aggregation, consentRequired } =
    components;
  const app = createApp(logger);
  // `envoyOnly` ensures that forwarded headers come from Envoy; `publicEndpoint` removes what a client could have forged.
  app.proxy = true;
  app.use(readiness.middleware);
  app.use(envoyOnly(envoy.peers, envoy.trustForwarded, envoy.onProven));
  if (tracing) app.use(tracedHttp(tracing.tracer));
  app.use(publicEndpoint(routes, logger, metrics));
  // Calls of tools are longer than what `limitBodies` allows: they have a limit of their own.
  app.use(aggregation.middleware);
  // A call's body has limits of its own: beyond them, the call is challenged.
  app.use(consentRequired.routes());
  app.use(limitBodies({ routes, metrics })).use(limitRequests({ routes, metrics }));
  const codePage = createCodePage({ ...components, roleOf: createPeopleRoles(routes) });
  app
    .use(signIn.router.routes())
    .use(codePage.routes())
    .use(portal.routes())
    .use(authorizationServer.middleware);
  return app;
}

/** The private listener, for Kubernetes, Prometheus and operators. */
function createPrivateApp(
  components: Components,
  own: {
    readonly live: LiveConfig;
    readonly refresh: () => Promise<void>;
    readonly accepting: () => boolean;
    readonly metricsOfAll?: (() => Promise<string>) | undefined;
    readonly recentProblems: RecentProblems;
  },
): Koa {
  const { store, routes, logger, metrics } = components;
  const health = createHealthRouter({
    ping: store.ping,
    accepting: own.accepting,
    configProblem: () => own.live.lastProblem(),
    metrics,
    metricsOfAll: own.metricsOfAll,
  });
  const adminApi = createAdminApi({ ...components, live: own.live, refresh: own.refresh });
  const { live, refresh, recentProblems } = own;
  const adminPage = createAdminPage({
    ...{ ...components, live, refresh, recentProblems },
    roleOf: createPeopleRoles(routes),
  });
  const app = createApp(logger);
  app.use(health.routes()).use(limitBodies({ routes, metrics }));
  app.use(adminApi.routes()).use(adminPage.routes());
  return app;
}

/** How often a process reports itself for the admin page, ms. */
const heartbeatMs = 30_000;

/** Reports this process until the returned function is called, which removes it. Failures are logged: nothing depends on it. */
function reportReplica({ store, logger }: Components): () => Promise<void> {
  const replica = { name: `${hostname()}:${process.pid}`, version: productVersion(), startedAt: new Date() };
  const quietly = (work: Promise<void>) =>
    work.catch((error: Error) => logger.debug({ reason: error.message }, "reporting this replica failed"));
  const report = () => quietly(store.replicas.report(replica));
  let last = report();
  const timer = setInterval(() => {
    last = report();
  }, heartbeatMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await last;
    await quietly(store.replicas.remove(replica.name));
  };
}

/**
 * Recurring work about every five minutes, with jitter to spread the replicas. One replica at a time does each kind, and none holds up the
 * others.
 */
function scheduleHousekeeping({ store, upstreamTokens, signIn, logger }: Components): NodeJS.Timeout {
  const alone = <T>(name: string, work: (signal: AbortSignal) => Promise<T>) =>
    store.backgroundWork.run(name, housekeepingMs / 2, work);
  const run = (what: string, work: Promise<object | undefined>) =>
    work.then(
      (done) => done && logger.debug(done, `${what} finished`),
      (error: Error) => logger.warn({ reason: error.message }, `${what} failed`),
    );
  const housekeeping = setInterval(
    () => {
      void run(
        "removing expired rows",
        alone("expired_rows", async () => ({ removed: await store.removeExpired(new Date()) })),
      );
      void run(
        "ending the connections of removed routes",
        upstreamTokens.disconnectOrphans().then((orphans) => ({ orphans })),
      );
      void run(
        "rechecking the owners of delegated connections",
        alone("owners", async (signal) => ({ count: await signIn.recheckOwners(signal) })),
      );
    },
    housekeepingMs * (0.8 + 0.4 * Math.random()),
  );
  return housekeeping.unref();
}
