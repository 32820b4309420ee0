import { mkdtemp, rm } from "node:fs/promises";
import type { IncomingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json, text } from "node:stream/consumers";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { envoy } from "../../dev/demo/envoy.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { listen as listenHttp } from "../../dev/demo/listen.ts";
import { aggregatedRouteOf } from "../../src/aggregation/checked-call.ts";
import { peerAuthentication } from "../../src/config/listeners.ts";
import { envoyBootstrap } from "../../src/envoy-config/bootstrap.ts";
import { createCheckService, createDenialAudit } from "../../src/ext-authz/check-service.ts";
import { createExternalProcessor } from "../../src/ext-proc/processor.ts";
import { createGrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { listen } from "../../src/server/http/listener.ts";
import { createApp, envoyOnly, publicEndpoint } from "../../src/server/http/public-endpoint.ts";
import { startChecks } from "../ext-authz/start-checks.ts";
import { anyPeer } from "./any-peer.ts";
import { throughEnvoy } from "./through-envoy.ts";

/** What the stand-in for the aggregation sends to a member. */
export interface MemberRequest {
  readonly member: string;
  readonly url: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  /** The stand-in calls no member, and never responds. */
  readonly hold?: true;
}

/** A request as a member has received it. */
export interface SeenByMember {
  readonly server: string;
  readonly url: string;
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** What the HTTP port has received for the aggregated route. */
interface SeenByPort {
  readonly headers: IncomingHttpHeaders;
  readonly url: string;
  /** Undefined: the request carries no call that a check has signed. */
  readonly caller: unknown;
  readonly sourceIp: unknown;
}

export const envoySecret = "e".repeat(43);

/**
 * A real Envoy with the generated configuration, the real checks, and an HTTP port on which a stand-in answers for the aggregated route
 * `https://all.test`: it sends the `MemberRequest` of the body and returns what came back. Its members `a` and `b` record requests.
 *
 * @param config adds to or replaces parts of the routes file
 * @param bootstrap changes Envoy's configuration (JSON)
 */
export async function startAggregateGateway(
  config: (own: object) => object = (own) => own,
  bootstrap: (generated: string) => string = (generated) => generated,
) {
  const folder = await mkdtemp(join(tmpdir(), "aggregate-"));
  const [port = 0, adminPort = 0, grpcPort = 0, httpPort = 0, memberPort = 0] = await Promise.all(
    Array.from({ length: 5 }, () => freePort()),
  );
  const authority = await certificateAuthority(folder, ["auth.test", "all.test", "a.test", "b.test"]);
  const seen: SeenByMember[] = [];
  const seenByPort: SeenByPort[] = [];
  const server = (name: string) =>
    listenHttp(async (request, response) => {
      const { url = "", method = "", headers } = request;
      const one = { server: name, url, method, headers, body: await text(request) };
      seen.push(one);
      if (url.endsWith("/moved")) response.writeHead(307, { location: "/elsewhere" });
      else if (url.endsWith("/again")) response.writeHead(503, { "x-mcp-auth-retry": signedRetry(name) });
      else if (url.endsWith("/done")) response.writeHead(200, { "x-mcp-auth-retry": signedRetry(name) });
      else if (url.endsWith("/forged")) response.writeHead(503, { "x-mcp-auth-retry": "1" });
      else if (url.endsWith("/another"))
        response.writeHead(503, { "x-mcp-auth-retry": signedRetry("another") });
      else response.writeHead(200, { "content-type": "application/json" });
      if (url.endsWith("/long")) response.end(Buffer.alloc(17 * 1024 * 1024, " "));
      else response.end(JSON.stringify({ server: name, body: one.body }));
    });
  /** As if the response path had answered. */
  const signedRetry = (route: string) =>
    checks.metadataProofs.signHeader("retry", { route, user: "idp/alice" });
  const [a, b] = await Promise.all([server("a"), server("b")]);
  const own = {
    issuer: "https://auth.test",
    sign_in: { providers: [{ id: "idp", issuer: "https://idp.test", client_id: "x" }] },
    listen: {
      grpc: `127.0.0.1:${grpcPort}`,
      http: `127.0.0.1:${httpPort}`,
      envoy_secret: envoySecret,
    },
    aggregation: { listen: `127.0.0.1:${memberPort}` },
    envoy: {
      listen: `127.0.0.1:${port}`,
      admin: `127.0.0.1:${adminPort}`,
      tls: { certificate: authority.files.certificate, key: authority.files.key },
      upstream_ca: authority.files.ca,
    },
    policy: [{ allow: { and: [{ accept: true }] } }],
    routes: [
      { id: "all", from: "https://all.test", mcp: { aggregate: { routes: ["a", "b"] } } },
      { id: "a", from: "https://a.test", to: a.url, mcp: { server: { upstream_auth: "none" } } },
      { id: "b", from: "https://b.test/mcp", to: b.url, mcp: { server: { upstream_auth: "none" } } },
    ],
  };
  const checks = await startChecks(JSON.stringify(config(own)));
  const { beforeClose, routes, logger, metrics, store } = checks;
  beforeClose(() => rm(folder, { recursive: true, force: true }));
  beforeClose(a.close);
  beforeClose(b.close);
  const grpc = await createGrpcServer({
    listen: `127.0.0.1:${grpcPort}`,
    peers: anyPeer,
    services: [
      createCheckService({ ...checks, peers: anyPeer, onDenial: createDenialAudit({ store, logger }) }),
      createExternalProcessor({ ...checks, maxWatchedStreams: 100, peers: anyPeer }),
    ],
  });
  const app = createApp(logger);
  app.proxy = true;
  app.use(async (ctx, next) => {
    if (ctx.path !== "/readyz") return next();
    ctx.status = 200;
  });
  const peers = peerAuthentication(`127.0.0.1:${httpPort}`, { envoySecrets: [envoySecret] });
  app.use(envoyOnly(peers, true, () => {})).use(publicEndpoint(routes, logger, metrics));
  app.use(async (ctx, next) => {
    if (!aggregatedRouteOf(ctx, routes())) return next();
    const headers = { ...ctx.req.headers };
    const call = await checks.callOf(ctx);
    seenByPort.push({ headers, url: ctx.url, caller: call?.caller, sourceIp: call?.sourceIp });
    if (!call) {
      ctx.status = 403;
      ctx.body = { error: "not_checked" };
      return;
    }
    const asked = (await json(ctx.req)) as MemberRequest;
    if (asked.hold) await new Promise((resolve) => ctx.req.once("close", resolve));
    const member = routes().byId(asked.member);
    if (!member) throw new Error(`no route ${asked.member}`);
    const { method = "POST", headers: sent = {}, body = "{}" } = asked;
    const init = { method, headers: sent, ...(method === "GET" ? {} : { body }) };
    try {
      const answer = await checks.memberFetch(call, member)(asked.url, init);
      ctx.body = {
        status: answer.status,
        headers: Object.fromEntries(answer.headers),
        body: await answer.text(),
      };
    } catch (error) {
      ctx.status = 502;
      ctx.body = { error: Object(error).message };
    }
  });
  const http = await listen(app, `127.0.0.1:${httpPort}`, {
    setting: "listen.http",
    config: routes().config,
    metrics,
  });
  beforeClose(() => http.close(0));
  const proxy = await envoy({
    bootstrap: bootstrap(JSON.stringify(envoyBootstrap(routes().config))),
    folder,
    adminPort,
  });
  beforeClose(proxy.close);
  // While Envoy still polls the health: draining waits for seconds until Envoy has noticed.
  beforeClose(() => grpc.drain(100));
  const address = { envoyPort: port, ca: authority };

  /** A call of the aggregated route, as an MCP client sends it. */
  async function call(token: string, request: MemberRequest, headers: Record<string, string> = {}) {
    const answer = await throughEnvoy(address, {
      url: "https://all.test/",
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
      body: JSON.stringify(request),
    });
    return {
      status: answer.status,
      header: answer.header,
      body: answer.header("content-type")?.startsWith("application/json")
        ? JSON.parse(answer.body)
        : answer.body,
    };
  }

  return {
    ...checks,
    /** Requests that reached members, and those that reached the HTTP port for the aggregated route. */
    seen,
    seenByPort,
    /** The address for `throughEnvoy`. */
    address,
    httpPort,
    memberPort,
    adminPort,
    /** An external token for the aggregated route. */
    aggregateToken: (claims: Record<string, unknown> = {}, grantId?: string) =>
      checks.token({ aud: "https://all.test", ...claims }, grantId === undefined ? {} : { grantId }),
    call,
  };
}

/** A request to member `a`. */
export const toA: MemberRequest = { member: "a", url: "https://a.test/" };
/** A request to member `b`, which is below a path. */
export const toB: MemberRequest = { member: "b", url: "https://b.test/mcp" };
