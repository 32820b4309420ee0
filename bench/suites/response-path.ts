import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { createRouteTable } from "../../src/config/route-table.ts";
import { challengeFilter } from "../../src/envoy-config/ext-proc-filter.ts";
import { createExternalProcessor } from "../../src/ext-proc/processor.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { percentile } from "../load/percentile.ts";
import type { Suite } from "./suite.ts";

const requestsPerRound = 300;
const variantNames = ["alone", "ext_proc", "composite"] as const;
type Variant = (typeof variantNames)[number];
const variantTitles: Record<Variant, string> = {
  alone: "no response path",
  ext_proc: "ext_proc for every response",
  composite: "ext_proc for a 401 or 403 only",
};
const type = (name: string) => `type.googleapis.com/${name}`;

/** What it costs a request that Envoy hands us upstream responses: latency, not load. */
export const responsePath: Suite = async ({ rounds, progress }) => {
  const folder = mkdtempSync(join(tmpdir(), "response-path-"));
  const routesFile = join(folder, "routes.yaml");
  writeFileSync(
    routesFile,
    JSON.stringify({
      issuer: "https://auth.test",
      policy: [{ allow: { and: [{ accept: true }] } }],
      routes: [{ id: "r", from: "https://mcp.test", to: "http://127.0.0.1:1/mcp", mcp: { server: {} } }],
    }),
    { mode: 0o600 },
  );
  const loaded = loadConfig(routesFile, {});
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  const table = createRouteTable(loaded.config);

  const extProc = {
    name: "envoy.filters.http.ext_proc",
    typed_config: {
      "@type": type("envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"),
      grpc_service: { envoy_grpc: { cluster_name: "sidecar_grpc" } },
      message_timeout: "5s",
      processing_mode: {
        request_header_mode: "SKIP",
        response_header_mode: "SEND",
        response_trailer_mode: "SKIP",
      },
      metadata_options: { forwarding_namespaces: { untyped: ["envoy.filters.http.ext_authz"] } },
    },
  };
  const composite = challengeFilter(loaded.config);
  /** Stands in for ext_authz: leaves its metadata without a call, so that only the response path is measured. */
  const letThroughMetadata = {
    name: "envoy.filters.http.set_metadata",
    typed_config: {
      "@type": type("envoy.extensions.filters.http.set_metadata.v3.Config"),
      metadata: [
        {
          metadata_namespace: "envoy.filters.http.ext_authz",
          value: {
            route: "r",
            user: "u",
            connection: "c",
            version: 1,
            refreshable: 1,
            path: "/401",
            request_id: "1",
          },
        },
      ],
    },
  };
  const variants = { alone: [], ext_proc: [extProc], composite: [composite] } as const;

  const upstream = createServer((request, response) => {
    request.resume().on("end", () => {
      response.writeHead(request.url === "/401" ? 401 : 200, { "content-type": "application/json" });
      response.end('{"jsonrpc":"2.0","id":1,"result":{}}');
    });
  }).listen(0, "127.0.0.1");
  await once(upstream, "listening");

  const grpc = new Server();
  const challenge = createExternalProcessor({
    maxWatchedStreams: 4_096,
    routes: () => table,
    upstreamTokens: { handleRejection: async () => ({ kind: "consent", scopes: ["mcp"], reason: "bench" }) },
    store: { elicitationSessions: { record: async () => {} } },
    peers: { verify: () => "proven", rejected: () => {} },
    // A filter stands in for the check: it cannot prove what it leaves, and leaves the same for every request.
    metadataProofs: {
      verify: () => true,
      signHeader: () => "",
      spend: () => true,
      proveUpstreamPath: () => "",
      cookiePrefixes: () => ["mcp_up_"],
    },
    logger: createLogger({ level: "silent" }),
    metrics: createMetrics(),
  });
  grpc.addService(challenge.definition, challenge.implementation);
  const grpcPort = await new Promise<number>((resolve, reject) =>
    grpc.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );

  const addressFile = join(folder, "admin");
  const cluster = (name: string, port: number, http2: boolean) => ({
    name,
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } },
          ],
        },
      ],
    },
    ...(http2 && {
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          "@type": type("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }),
  });
  writeFileSync(
    join(folder, "envoy.json"),
    JSON.stringify({
      admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
      static_resources: {
        clusters: [
          cluster("upstream", (upstream.address() as AddressInfo).port, false),
          cluster("sidecar_grpc", grpcPort, true),
        ],
        listeners: Object.entries(variants).map(([name, filters]) => ({
          name,
          address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
          filter_chains: [
            {
              filters: [
                {
                  name: "http",
                  typed_config: {
                    "@type": type(
                      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    ),
                    stat_prefix: name,
                    http_filters: [
                      letThroughMetadata,
                      ...filters,
                      {
                        name: "envoy.filters.http.router",
                        typed_config: { "@type": type("envoy.extensions.filters.http.router.v3.Router") },
                      },
                    ],
                    route_config: {
                      virtual_hosts: [
                        {
                          name: "all",
                          domains: ["*"],
                          routes: [{ match: { prefix: "/" }, route: { cluster: "upstream" } }],
                        },
                      ],
                    },
                  },
                },
              ],
            },
          ],
        })),
      },
    }),
  );
  const envoy = spawn(
    await envoyBinary(),
    [
      "-c",
      join(folder, "envoy.json"),
      "--concurrency",
      "1",
      "-l",
      "error",
      "--use-dynamic-base-id",
      "--admin-address-path",
      addressFile,
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  try {
    const ports = await listenerPorts(addressFile);
    const times: Record<Variant, number[]> = { alone: [], ext_proc: [], composite: [] };
    const refusals: Record<Variant, number[]> = { alone: [], ext_proc: [], composite: [] };
    progress("the response path alone");
    for (let round = -2; round < rounds * 2; round++) {
      for (const name of variantNames) {
        const measured = await latencies(ports[name] ?? 0, "/ok", requestsPerRound);
        const refused = await latencies(ports[name] ?? 0, "/401", requestsPerRound / 10);
        if (round < 0) continue; // Warm-up: connections, just-in-time compilation.
        times[name].push(...measured);
        refusals[name].push(...refused);
      }
    }
    return {
      tables: [
        {
          title: "The response path alone",
          note: `One Envoy without ext_authz, three listeners: no response path, ext_proc for every response, and what envoy-config writes: a matcher that creates ext_proc only for an upstream's 401 or 403. One connection, one request after the other; ${rounds * 2} interleaved rounds of ${requestsPerRound}.`,
          lines: variantNames.map((name) => ({
            name: variantTitles[name],
            figures: {
              "200: p50 ms": percentile(times[name], 0.5),
              "200: p99 ms": percentile(times[name], 0.99),
              "401: p50 ms": percentile(refusals[name], 0.5),
              "401: p99 ms": percentile(refusals[name], 0.99),
            },
          })),
        },
      ],
      targets: [],
    };
  } finally {
    envoy.kill();
    grpc.forceShutdown();
    upstream.closeAllConnections();
    upstream.close();
    rmSync(folder, { recursive: true, force: true });
  }
};

async function listenerPorts(addressFile: string): Promise<Record<string, number>> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    try {
      const admin = `http://${readFileSync(addressFile, "utf8").trim()}`;
      if ((await fetch(`${admin}/ready`)).ok) {
        const answer = await (await fetch(`${admin}/listeners?format=json`)).json();
        return Object.fromEntries(
          (
            answer.listener_statuses as {
              name: string;
              local_address: { socket_address: { port_value: number } };
            }[]
          ).map((listener) => [listener.name, listener.local_address.socket_address.port_value]),
        );
      }
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Sends `count` POSTs one after the other on one bare socket; milliseconds each, to the whole answer. */
async function latencies(port: number, path: string, count: number): Promise<number[]> {
  const socket = createConnection(port, "127.0.0.1").setNoDelay();
  await once(socket, "connect");
  const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
  const request = `POST ${path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const measured: number[] = [];
  for (let sent = 0; sent < count; sent++) {
    const start = performance.now();
    socket.write(request);
    await wholeAnswer(socket);
    measured.push(performance.now() - start);
  }
  socket.destroy();
  return measured;
}

function wholeAnswer(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = "";
    const take = (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = /content-length: (\d+)/i.exec(text)?.[1];
      const done = length ? text.length >= head + 4 + Number(length) : text.endsWith("0\r\n\r\n");
      if (!done) return;
      socket.off("data", take).off("close", gone);
      resolve();
    };
    const gone = () => reject(new Error("Envoy closed the connection"));
    socket.on("data", take).on("close", gone);
  });
}
