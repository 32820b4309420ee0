import { rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import Koa, { type Middleware } from "koa";
import { createAdminApi } from "./admin/admin-api.ts";
import { followStoredRoutes } from "./admin/follow-stored-routes.ts";
import { createHealthRouter } from "./admin/health.ts";
import { createAuthorizationServer } from "./authorization-server/create-authorization-server.ts";
import type { Config } from "./config/config.ts";
import { databaseExposure, isTcp, peerAuthentication } from "./config/listeners.ts";
import { createLiveConfig } from "./config/live-config.ts";
import type { CurrentRoutes } from "./config/route-table.ts";
import { proxyEnvironment } from "./egress/proxies.ts";
import { createSafeFetch, createTrustedFetch } from "./egress/safe-fetch.ts";
import { writeXdsDir } from "./envoy-config/xds-files.ts";
import { createCheckService, createRefusalAudit } from "./ext-authz/check-service.ts";
import { createChallengeService, mostWatchedStreams } from "./ext-proc/processor.ts";
import { createAssertions } from "./external-tokens/assertions.ts";
import { createExternalTokens } from "./external-tokens/create-external-tokens.ts";
import { createMetadataProofs } from "./external-tokens/metadata-proofs.ts";
import { createSigningKeys } from "./external-tokens/signing-keys.ts";
import type { Route } from "./model/route.ts";
import type { PolicyCaller } from "./model/subject.ts";
import { createRateLimiter } from "./policy/rate-limiter.ts";
import { createCurrentPolicies } from "./policy/route-policy.ts";
import { createPortal } from "./portal/create-portal.ts";
import { createGrpcServer } from "./server/grpc/grpc-server.ts";
import { healthNoticeMs } from "./server/grpc/health.ts";
import { envoyOnly } from "./server/http/envoy-only.ts";
import { answerError, showErrorToPerson } from "./server/http/errors.ts";
import { limitBodies, limitRequests } from "./server/http/limits.ts";
import { createDoorHealth } from "./server/http/readiness.ts";
import { requestId } from "./server/http/request.ts";
import {
  type UnprovenConnections,
  unprovenConnections,
  withSocketMode,
} from "./server/unproven-connections.ts";
import { createSignIn } from "./sign-in/create-sign-in.ts";
import { judgeOldRecord } from "./sign-in/person-claims.ts";
import { loadKeyEncryptionKeys } from "./store/encryption/load-keys.ts";
import { StoreUnavailable } from "./store/errors.ts";
import { openStore } from "./store/open-store.ts";
import { createPeople } from "./store/people.ts";
import { createLogger, type Logger, reportNowAndThen } from "./telemetry/logger.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";
import { inSpan, startTracing, tracedHttp, tracedService } from "./telemetry/tracing.ts";
import { createUpstreamOAuth } from "./upstream-oauth/create-upstream-oauth.ts";
import { createUpstreamTokens } from "./upstream-tokens/create-upstream-tokens.ts";

/** Calls under way may take this long after SIGTERM, ms. */
const drainMs = 10_000;
/** Open connections per HTTP listener: several Envoys' pools (`sidecar-cluster.ts`). */
const maxConnections = 8_192;
/** Expired rows are removed about this often, ms. */
const housekeepingMs = 5 * 60_000;

/** A sidecar that serves; addresses as really bound. */
export interface Sidecar {
  readonly grpc: string;
  readonly http: string;
  readonly admin: string;
  /** Refuses new work, lets calls under way end, closes the store. */
  close(): Promise<void>;
}

/**
 * Builds every room from the routes file and opens the three doors. Nothing is served before all of it stands.
 * @throws InvalidConfig, StoreMisconfigured, StoreUnavailable, or the error of an address that cannot be bound.
 */
export async function serve(options: {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Folder where a running Envoy finds listener and clusters; rewritten with every change of the routes (F1.7). */
  readonly xdsDir?: string;
  /** Other addresses than the file's: several processes of one machine share it. */
  readonly listen?: { readonly grpc?: string; readonly http?: string; readonly admin?: string };
}): Promise<Sidecar> {
  const { file, env, xdsDir, listen: own = {} } = options;
  const metrics = createMetrics({ process: true });
  const tracing = await startTracing(env);
  const live = createLiveConfig({ file, env, metrics, listeners: own });
  const { config } = live.current();
  const logger = createLogger({
    level: config.log.level,
    linesPerMinute: config.limits.logLines,
    onDrop: () => metrics.limitsReached.inc({ limit: "log_lines" }),
  });
  live.onProblem((problem) =>
    logger.error({ problem }, "the routes file was refused; the old one stays in force"),
  );
  const routes = live.current;

  for (const url of [config.database.url, config.database.listenUrl]) {
    const exposure = url === undefined ? undefined : databaseExposure(url, config.database.tls);
    if (exposure) logger.warn(`${exposure}; set database.tls: verify-full`);
  }
  const embeddedDir = config.database.url === undefined ? config.database.dir : undefined;
  const trustedFetch = createTrustedFetch({ limits: () => routes().config.upstreamOAuth });
  const store = await openStore({
    ...config.database,
    keys: await loadKeyEncryptionKeys(config.encryption.keys, {
      env,
      embeddedDir,
      fetch: trustedFetch,
      proxyEnv: proxyEnvironment(config.upstreamOAuth.proxies),
    }),
    logger,
    metrics,
    inSpan,
    auditRetentionDays: config.audit.retention / 86_400,
    judgePerson: (record) => judgeOldRecord(record, routes().config.signIn.providers),
  });
  const storedRoutes = await followStoredRoutes({ store, live, logger });
  if (xdsDir !== undefined) {
    let written = routes().config;
    writeXdsDir(written, xdsDir);
    live.onChange((table) => {
      try {
        writeXdsDir(table.config, xdsDir, written);
        written = table.config;
      } catch (error) {
        logger.error({ err: error, xdsDir }, "Envoy's files cannot be written; it goes on with the old ones");
      }
    });
  }
  const keys = await createSigningKeys({ store, logger });
  const safeFetch = createSafeFetch({ limits: () => routes().config.upstreamOAuth });

  const people = createPeople({
    store,
    limits: { entries: config.limits.cacheEntries, bytes: config.limits.tokenCacheBytes },
    onEvict: () => metrics.cacheEvictions.inc({ cache: "person" }),
  });
  const externalTokens = createExternalTokens({
    routes,
    store,
    people,
    keys,
    fetch: trustedFetch,
    logger,
    metrics,
  });
  const assertions = createAssertions({ keys, routes, metrics });
  const policies = createCurrentPolicies(routes);
  const tellOfBrokenRules = () => {
    for (const problem of policies().problems)
      logger.error(problem, "a policy rule cannot be used; its route is closed");
  };
  tellOfBrokenRules();
  live.onChange((_table, needsRestart) => {
    if (needsRestart.length === 0) logger.info("the routes file was loaded again");
    else
      logger.warn(
        { needsRestart },
        "the routes file was loaded again; what needsRestart names keeps its old values until a restart",
      );
    tellOfBrokenRules();
  });
  const upstreamOAuth = createUpstreamOAuth({
    routes,
    store,
    keys,
    logger,
    metrics,
    // Sign-in stands further down: it in turn ends upstream tokens.
    renewSignIn: (old) => signIn.renewTokens(old),
  });
  const upstreamTokens = createUpstreamTokens({ routes, store, upstreamOAuth, logger, metrics });
  const signIn = createSignIn({
    routes,
    store,
    fetch: trustedFetch,
    logger,
    metrics,
    personRefused: upstreamTokens.disconnectAll,
  });
  const mayReach = (person: PolicyCaller, route: Route) =>
    policies().forRoute(route.id).mayReach(person, Date.now());
  const authorizationServer = createAuthorizationServer({
    routes,
    store,
    keys,
    signIn,
    upstreamTokens,
    upstreamNotice: upstreamOAuth.notice,
    mayReach,
    externalTokens,
    fetch: safeFetch,
    logger,
    metrics,
  });
  const portal = createPortal({
    routes,
    store,
    signIn,
    externalTokens,
    people,
    upstreamOAuth,
    upstreamTokens,
    endpointPath: upstreamOAuth.endpointPath,
    describeClient: authorizationServer.describeClient,
    mayReach,
    logger,
  });

  const listening = { grpc: own.grpc ?? config.listen.grpc, http: own.http ?? config.listen.http };
  const peersAt = (listener: "grpc" | "http") => {
    const address = listening[listener];
    metrics.unauthenticatedCalls.inc({ listener }, 0);
    const report = reportNowAndThen((times) =>
      logger.warn(
        { listener, address, times },
        "calls were turned away: the peer has not proven that it is Envoy",
      ),
    );
    return peerAuthentication(address, config.listen, () => {
      metrics.unauthenticatedCalls.inc({ listener });
      report();
    });
  };
  const grpcPeers = peersAt("grpc");
  if (config.listen.grpcAuthentication === "none")
    logger.warn(
      { address: listening.grpc },
      "grpc_authentication is none: whoever reaches this is taken for Envoy",
    );
  const metadataProofs = await createMetadataProofs({ store, logger });

  const check = createCheckService({
    routes,
    peers: grpcPeers,
    metadataProofs,
    policies,
    limiter: createRateLimiter(),
    externalTokens,
    people,
    assertions,
    upstreamTokens,
    sessionFromCookieHeader: signIn.sessionFromCookieHeader,
    onRefusal: createRefusalAudit({ store, logger }),
    logger,
    metrics,
  });
  const challenge = createChallengeService({
    mostWatchedStreams,
    upstreamTokens,
    routes,
    peers: grpcPeers,
    metadataProofs,
    logger,
    metrics,
  });

  let accepting = true;
  const health = createHealthRouter({
    ping: store.ping,
    accepting: () => accepting,
    configProblem: () => live.lastProblem(),
    metrics,
  });
  const publicDoor = koa(logger);
  // `envoyOnly` sees to it that what is forwarded comes from Envoy, and `door` rewrites what a client could have forged.
  publicDoor.proxy = true;
  const doorHealth = createDoorHealth();
  publicDoor.use(doorHealth.middleware);
  const believed = !isTcp(listening.http) || config.listen.envoySecrets.length > 0;
  const unproven = unprovenConnections<Socket>(maxConnections / 2, (socket) => socket.destroy());
  publicDoor.use(envoyOnly(peersAt("http"), believed, unproven.remove));
  if (tracing) publicDoor.use(tracedHttp(tracing.tracer));
  publicDoor.use(door(routes, logger, metrics));
  publicDoor.use(limitBodies({ routes, metrics })).use(limitRequests({ routes, metrics }));
  publicDoor.use(signIn.router.routes()).use(portal.routes()).use(authorizationServer.middleware);
  const privateDoor = koa(logger);
  const adminApi = createAdminApi({
    routes,
    live,
    store,
    upstreamOAuth,
    logger,
    refresh: storedRoutes.refresh,
  });
  privateDoor.use(health.routes()).use(limitBodies({ routes, metrics })).use(adminApi.routes());

  const services = [check, challenge].map((one) => (tracing ? tracedService(one, tracing.tracer) : one));
  const grpc = await createGrpcServer({
    listen: listening.grpc,
    services,
    peers: grpcPeers,
    tls: config.listen.grpcTls,
    socketMode: config.listen.socketMode,
  });
  const http = await listen(publicDoor, listening.http, { config, metrics, unproven });
  const admin = await listen(privateDoor, own.admin ?? config.listen.admin, { config, metrics });
  const housekeeping = setInterval(
    () => {
      Promise.all([
        store.removeExpired(new Date()),
        upstreamTokens.disconnectOrphans(),
        signIn.recheckOwners(),
      ]).then(
        ([removed, orphans]) => logger.debug({ removed, orphans }, "expired rows removed"),
        (error: Error) => logger.warn({ reason: error.message }, "expired rows could not be removed"),
      );
    },
    housekeepingMs * (0.8 + 0.4 * Math.random()),
  );
  housekeeping.unref();
  logger.info(
    { grpc: grpc.address, http: http.address, admin: admin.address, routes: config.routes.length },
    "ready",
  );

  return {
    grpc: grpc.address,
    http: http.address,
    admin: admin.address,
    async close() {
      accepting = false;
      grpc.setServing(false);
      clearInterval(housekeeping);
      await Promise.all([
        grpc.drain(drainMs),
        doorHealth.drain(healthNoticeMs).then(() => http.close(drainMs)),
      ]);
      await admin.close(0);
      for (const room of [
        authorizationServer,
        upstreamTokens,
        upstreamOAuth,
        externalTokens,
        people,
        signIn,
        keys,
        metadataProofs,
        storedRoutes,
        live,
      ])
        await room.close();
      await store.close();
      // A collector that is away must not keep us.
      await tracing?.close().catch((error: Error) => logger.debug({ reason: error.message }, "traces lost"));
      logger.info("stopped");
    },
  };
}

/** An app that logs what nobody caught, and never prints it. */
function koa(logger: Logger): Koa {
  const app = new Koa();
  app.silent = true;
  app.on("error", (error: Error) =>
    logger.debug({ reason: error.message }, "an HTTP answer could not be finished"),
  );
  return app;
}

/**
 * First thing on the public port: knows the host or refuses it, settles scheme and host for everything behind,
 * and turns what is thrown into a page or JSON with a request id, logged once (F5.6).
 */
function door(routes: CurrentRoutes, logger: Logger, metrics: Metrics): Middleware {
  return async (ctx, next) => {
    const id = requestId(ctx.req);
    ctx.set("x-request-id", id);
    const origin = routes().originOf(ctx.req.headers.host ?? "");
    if (!origin) {
      answerError(ctx, 404, "unknown_host", "Nothing is served under this host name.");
      return;
    }
    delete ctx.req.headers["x-forwarded-host"];
    ctx.req.headers["x-forwarded-proto"] = new URL(origin).protocol.slice(0, -1);
    ctx.req.headers.host = new URL(origin).host;
    try {
      await next();
      if (ctx.status === 404 && ctx.body == null)
        answerError(ctx, 404, "not_found", "There is nothing at this address.");
      showErrorToPerson(ctx);
      // Whatever error page somebody sees, its request id leads here (F5.6).
      if (ctx.status >= 400 && ctx.type === "text/html")
        logger.info(
          { requestId: id, status: ctx.status, method: ctx.method, path: ctx.path },
          "a person got an error page",
        );
    } catch (error) {
      if (ctx.req.destroyed && !ctx.req.complete) {
        logger.debug({ requestId: id, method: ctx.method, path: ctx.path }, "a client broke off its request");
        return;
      }
      const { status, code, message } = publicError(error);
      metrics.errors.inc({ room: "http", code });
      logger[status >= 500 ? "error" : "info"](
        { err: error, requestId: id, status, code, method: ctx.method, path: ctx.path },
        "an HTTP request failed",
      );
      if (status === 503) ctx.set("retry-after", "1");
      answerError(ctx, status, code, message);
    }
  };
}

/** What a caller may know of an error: an HTTP error made for them says so (`expose`), all else is ours to keep. */
function publicError(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof StoreUnavailable)
    return { status: 503, code: error.code, message: "The service cannot reach its database just now." };
  if (error instanceof Error && "expose" in error && error.expose && "status" in error)
    return { status: Number(error.status), code: "invalid_request", message: error.message };
  return { status: 500, code: "internal", message: "Something went wrong on our side." };
}

/** Serves `app` on `host:port` or `unix:/path`. Closing refuses new connections and cuts off after `graceMs`. */
async function listen(
  app: Koa,
  address: string,
  options: {
    readonly config: Config;
    readonly metrics: Metrics;
    readonly unproven?: UnprovenConnections<Socket>;
  },
): Promise<{ readonly address: string; close(graceMs: number): Promise<void> }> {
  const { config, metrics, unproven } = options;
  const server = createServer(
    {
      maxHeaderSize: config.check.maxHeaderBytes,
      // From the first byte, or from connecting; all our bodies are small, and Envoy hands them over complete.
      headersTimeout: 10_000,
      requestTimeout: 20_000,
      connectionsCheckingInterval: 2_000,
    },
    app.callback(),
  );
  server.maxConnections = maxConnections;
  if (unproven)
    server.on("connection", (connection: Socket) => {
      unproven.add(connection);
      connection.once("close", () => unproven.remove(connection));
    });
  server.on("clientError", (error: NodeJS.ErrnoException, wire) => {
    const tooLong = error.code === "HPE_HEADER_OVERFLOW";
    if (tooLong) metrics.limitsReached.inc({ limit: "header_bytes" });
    const tooSlow = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
    const status = tooLong
      ? "431 Request Header Fields Too Large"
      : tooSlow
        ? "408 Request Timeout"
        : "400 Bad Request";
    if (!wire.writable) {
      wire.destroy();
      return;
    }
    wire.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
    // Who sends nothing may not read either.
    if (tooSlow) setTimeout(() => wire.destroy(), 1_000).unref();
  });
  // Envoy keeps connections for an hour; closing first would cost it a request now and then.
  server.keepAliveTimeout = 75_000;
  const socket = /^unix:(.+)$/.exec(address)?.[1];
  if (socket) rmSync(socket, { force: true });
  const url = socket ? undefined : new URL(`http://${address}`);
  await withSocketMode(
    config.listen.socketMode,
    () =>
      new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        const listening = () => resolve();
        if (socket) server.listen(socket, listening);
        else server.listen(Number(url?.port || 80), url?.hostname.replace(/^\[|\]$/g, ""), listening);
      }),
  );
  return {
    address: socket ? address : `${url?.hostname}:${(server.address() as AddressInfo).port}`,
    async close(graceMs) {
      const cutOff = setTimeout(() => server.closeAllConnections(), graceMs);
      server.closeIdleConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      clearTimeout(cutOff);
    },
  };
}
