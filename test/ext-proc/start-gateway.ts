import { mkdtemp, rm } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { envoy } from "../../dev/demo/envoy.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { listen } from "../../dev/demo/listen.ts";
import { envoyBootstrap } from "../../src/envoy-config/bootstrap.ts";
import { createCheckService } from "../../src/ext-authz/check-service.ts";
import { createExternalProcessor } from "../../src/ext-proc/processor.ts";
import type { ExternalProcessorDeps } from "../../src/ext-proc/protocol.ts";
import { createGrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { startChecks } from "../ext-authz/start-checks.ts";
import { anyPeer } from "../support/any-peer.ts";

/**
 * A real Envoy with the generated bootstrap, the real check and challenge services, and `upstream`. `upstreamRefused` decides the
 * outcome of a rejection, so that each outcome can be tested; for the real decision see test/system/e2e.
 */
export async function startGateway(options: {
  upstream: RequestListener;
  upstreamRejected: ExternalProcessorDeps["upstreamTokens"]["handleRejection"];
  /** Further routes, and their hosts. */
  more?: {
    readonly names: readonly string[];
    readonly routes: (upstream: string) => readonly object[];
    readonly limits?: object;
    readonly mostWatchedStreams?: number;
  };
}) {
  const folder = await mkdtemp(join(tmpdir(), "challenge-"));
  const [port = 0, adminPort = 0, grpcPort = 0] = await Promise.all([freePort(), freePort(), freePort()]);
  const authority = await certificateAuthority(folder, [
    "mcp.test",
    "guarded.test",
    ...(options.more?.names ?? []),
  ]);
  const upstream = await listen(options.upstream);
  const checks = await startChecks(
    JSON.stringify({
      issuer: "https://auth.test",
      listen: { grpc: `127.0.0.1:${grpcPort}` },
      check: { deadline: 2 },
      ...(options.more?.limits && { limits: options.more.limits }),
      envoy: {
        listen: `127.0.0.1:${port}`,
        admin: `127.0.0.1:${adminPort}`,
        tls: { certificate: authority.files.certificate, key: authority.files.key },
        upstream_ca: authority.files.ca,
      },
      policy: [{ allow: { and: [{ accept: true }] } }],
      routes: [
        { id: "tools", from: "https://mcp.test", to: upstream.url, mcp: { server: {} } },
        {
          id: "guarded",
          from: "https://guarded.test",
          to: upstream.url,
          mcp: { server: { tools: { deny: ["secret"] } } },
        },
        ...(options.more?.routes(upstream.url) ?? []),
      ],
    }),
  );
  const { beforeClose } = checks;
  beforeClose(() => rm(folder, { recursive: true, force: true }));
  beforeClose(upstream.close);
  const grpc = await createGrpcServer({
    listen: `127.0.0.1:${grpcPort}`,
    peers: anyPeer,
    services: [
      createCheckService({
        ...checks,
        peers: anyPeer,
        upstreamTokens: {
          find: () => ({
            kind: "credential",
            headers: [["authorization", "Bearer upstream-token"]],
            connection: "connection-1",
            version: 7,
          }),
        },
      }),
      createExternalProcessor({
        ...checks,
        maxWatchedStreams: options.more?.mostWatchedStreams ?? 4_096,
        peers: anyPeer,
        upstreamTokens: { handleRejection: options.upstreamRejected },
      }),
    ],
  });
  const proxy = await envoy({
    bootstrap: JSON.stringify(envoyBootstrap(checks.routes().config)),
    folder,
    adminPort,
  });
  beforeClose(proxy.close);
  // While Envoy still polls the health: draining waits for seconds until Envoy has noticed.
  beforeClose(() => grpc.drain(100));
  const token = await checks.token();

  return {
    token,
    signedIn: checks.signedIn,
    /** An external token for another route. */
    tokenFor: (aud: string, claims: object = {}) => checks.token({ aud, ...claims }),
    upstream: upstream.url,
    /** An external token for the route with a tool policy. */
    guardedToken: () => checks.token({ aud: "https://guarded.test" }),
    /** An external token whose client has no refresh token. */
    machineToken: () => checks.token({ refreshable: false }),
    grpcAddress: grpc.address,
    metrics: checks.metrics,
    /** The sidecar is gone: nothing listens on its port. */
    stopSidecar: () => grpc.drain(100),
    /** The address for `throughEnvoy`. */
    address: { envoyPort: port, ca: authority },
    close: checks.close,
  };
}
