import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { dirname, join } from "node:path";
import { connect } from "node:tls";
import { promisify } from "node:util";
import type { ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { type Envoy, envoy } from "../../dev/demo/envoy.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import { envoyConfig } from "../../src/cli/envoy-config.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { envoyBootstrap, writeXdsDir } from "../../src/envoy-config/bootstrap.ts";
import { inspectedBodyBytes } from "../../src/model/route.ts";
import { compilePolicies } from "../../src/policy/route-policy.ts";
import { createGrpcServer, type GrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { loadGrpcService } from "../../src/server/grpc/unary.ts";
import { configFile } from "../config/config-file.ts";
import { anyPeer } from "../support/any-peer.ts";

const run = promisify(execFile);
const head = `issuer: https://auth.example.com
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
policy: {allow: {or: [{accept: true}]}}
`;
const listening = "listen: {envoy_secret: an-envoy-secret-that-is-long-enough-1}\n";
let tls: CertificateAuthority;

beforeAll(async () => {
  tls = await certificateAuthority(dirname(configFile("")), ["h.example.com", "auth.example.com"]);
});

const envoySection = (extra = "") =>
  `envoy: {tls: {certificate: ${tls.files.certificate}, key: ${tls.files.key}}, upstream_ca: ${tls.files.ca}${extra}}\n`;
const loaded = (text: string) => {
  const result = loadConfig(configFile(text), {});
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
};

it("does not redirect to https if the TLS terminator's headers are not trusted: to Envoy, every request would be plain HTTP", () => {
  const routes = (envoy: string) =>
    JSON.stringify(
      envoyBootstrap(
        loaded(
          `${head}${listening}envoy: {${envoy}, tls: {terminated_by: 127.0.0.1}}\nroutes:\n  - {from: https://h.example.com, to: http://x, mcp: {}}\n`,
        ),
      ),
    );
  expect(routes("xff_num_trusted_hops: 1")).toContain("https_redirect");
  expect(routes("xff_num_trusted_hops: 0")).not.toContain("https_redirect");
});

describe("envoy-config", () => {
  it.each([
    ["one http upstream", "  - {from: https://h.example.com, to: http://x:8080/mcp, mcp: {}}", ""],
    [
      "several routes on one host",
      "  - {from: https://h.example.com/a, to: http://x/mcp, mcp: {}}\n  - {from: https://h.example.com/a/b, to: http://y/mcp/, mcp: {}}\n  - {from: https://h.example.com, to: http://z, mcp: {}}",
      "",
    ],
    [
      "https by name, by address, by several names, by IPv6 address",
      "  - {from: https://a.example.com, to: https://up.example.com/mcp, mcp: {}}\n  - {from: https://b.example.com, to: https://10.0.0.1:8443, mcp: {}}\n  - {from: https://c.example.com, to: [https://u.example.com, https://v.example.com], mcp: {}}\n  - {from: https://d.example.com, to: 'https://[2001:db8::1]', mcp: {}}",
      "",
    ],
    [
      "custom TLS settings",
      "  - {from: https://a.example.com, to: https://10.0.0.1, tls_upstream_server_name: up.example.com, tls_custom_ca_file: CA, preserve_host_header: true, mcp: {}}",
      "",
    ],
    [
      "tool policy, rate limits and client routes",
      "  - {from: https://a.example.com, to: http://x, tools: {deny: [d]}, mcp: {}}\n  - {from: https://b.example.com, to: http://x, policy: {deny: {or: [{mcp_tool: d}]}}, mcp: {}}\n  - {from: https://c.example.com:8443, to: http://x, mcp: {client: {}}}",
      "",
    ],
    [
      "aggregated routes, with and without a tool policy, on hosts of members and others",
      "  - {id: a, from: https://h.example.com/a, to: http://x/mcp, mcp: {}}\n  - {from: 'http://localhost:8765', to: http://y, mcp: {}}\n  - {from: https://h.example.com/all, mcp: {aggregate: {routes: all}}}\n  - {from: https://all.example.com, tools: {deny: [a__x]}, mcp: {aggregate: {routes: [a]}}}",
      "",
    ],
    [
      "an https origin whose port is the default one of the same host's plain HTTP",
      "  - {from: 'http://a.localhost', to: http://x, mcp: {}}\n  - {from: 'https://a.localhost:80', to: http://y, mcp: {}}",
      "",
    ],
    [
      "a Unix socket, several replicas, another prefix",
      "  - {from: https://h.example.com, to: http://x, mcp: {}}",
      "listen: {grpc: 'unix:/run/x.sock'}\npaths: {prefix: /gate/way}\n",
    ],
    [
      "the issuer's host is a route's",
      "  - {from: https://auth.example.com, to: http://127.0.0.1:3000/mcp, mcp: {}}",
      "",
    ],
  ])("is accepted by Envoy: %s", async (_, routes, extra) => {
    const file = configFile(
      `${head}${envoySection()}${extra || listening}routes:\n${routes.replace("CA", tls.files.ca)}\n`,
    );
    const printed: string[] = [];
    const code = envoyConfig({
      file,
      env: {},
      format: "yaml",
      out: (text) => printed.push(text),
      err: () => {},
    });
    expect(code).toBe(0);
    const bootstrap = join(dirname(file), "envoy.yaml");
    writeFileSync(bootstrap, printed.join(""));
    const { stdout, stderr } = await run(await envoyBinary(), [
      "--mode",
      "validate",
      "-c",
      bootstrap,
      "-l",
      "warning",
    ]);
    expect(stdout + stderr).toContain("OK");
    expect(stdout + stderr).not.toMatch(/[Dd]eprecated/);
  });

  it("prints the same content as YAML and as JSON, and nothing for an invalid file", () => {
    const file = configFile(
      `${head}${listening}${envoySection()}routes:\n  - {from: https://h.example.com, to: http://x, mcp: {}}\n`,
    );
    const print = (format: "yaml" | "json", from = file) => {
      const printed: string[] = [];
      const code = envoyConfig({
        file: from,
        env: {},
        format,
        out: (text) => printed.push(text),
        err: () => {},
      });
      return [code, printed.join("")] as const;
    };
    expect(JSON.parse(print("json")[1])).toEqual(parse(print("yaml")[1]));
    expect(print("yaml", configFile("routes: 7"))).toEqual([1, ""]);
  });

  it("makes Envoy buffer exactly the bodies that policy inspects", () => {
    const config = loaded(`${head}routes:
  - {id: plain, from: https://a.example.com, to: http://x, mcp: {}}
  - {id: tools, from: https://b.example.com, to: http://x, tools: {allow: [a]}, mcp: {server: {max_request_bytes: 4KiB}}}
  - {id: named, from: https://c.example.com, to: http://x, policy: {allow: {not: [{mcp_tool: a}]}}, mcp: {}}
  - {id: rated, from: https://d.example.com, to: http://x, rate_limit: {tool_calls_per_minute: 5}, mcp: {}}
  - {id: client, from: https://e.example.com, to: http://x, policy: {deny: {or: [{mcp_tool: a}]}}, mcp: {client: {}}}
`);
    const policies = compilePolicies(config);
    const inspected = config.routes.map((route) => [route.id, inspectedBodyBytes(route)]);
    expect(inspected).toEqual(config.routes.map(({ id }) => [id, policies.forRoute(id).maxBodyBytes]));
    expect(inspected).toEqual([
      ["plain", 0],
      ["tools", 4096],
      ["named", 1024 * 1024],
      ["rated", 1024 * 1024],
      ["client", 0],
    ]);
  });

  it("keeps secrets out of the bootstrap and the access log", () => {
    const config = loaded(
      `${head}routes:\n  - {from: https://h.example.com, to: http://x, mcp: {server: {upstream_auth: {api_key: {header: x-key, value: hunter2}}}}}\n`,
    );
    const text = JSON.stringify(envoyBootstrap(config));
    expect(text).not.toContain("hunter2");
    expect(text).not.toMatch(/%REQ\((AUTHORIZATION|COOKIE|:PATH)/i);
  });
});

describe("a running Envoy with --xds-dir", () => {
  interface Seen {
    readonly path: string;
    readonly host: string;
    readonly headers: Record<string, string>;
  }
  const checks: { path: string; names: string[]; body: number }[] = [];
  let upstreamSeen: Seen | undefined;
  let upstream: Listener;
  let sidecar: Listener;
  let grpc: GrpcServer;
  let running: Envoy;
  let port: number;
  let write: (routes: string) => void;

  /** Allows everything except `/refused`, and records the checks. */
  const probe = {
    definition: loadGrpcService(
      "envoy/service/auth/v3/external_auth.proto",
      "envoy.service.auth.v3.Authorization",
    ),
    implementation: {
      Check(call: ServerUnaryCall<CheckRequestLike, unknown>, answer: sendUnaryData<unknown>) {
        const http = call.request.attributes?.request?.http;
        const path = http?.path ?? "";
        const names = (http?.headerMap?.headers ?? []).map(({ key }) => key ?? "");
        checks.push({ path, names, body: http?.rawBody?.length ?? 0 });
        const refused = path.startsWith("/refused");
        answer(
          null,
          refused
            ? { status: { code: 7 }, deniedResponse: { status: { code: 404 }, body: "refused" } }
            : { status: { code: 0 }, okResponse: {} },
        );
      },
    },
  };
  interface CheckRequestLike {
    readonly attributes?: {
      readonly request?: {
        readonly http?: {
          readonly path?: string;
          readonly headerMap?: { readonly headers?: readonly { readonly key?: string }[] };
          readonly rawBody?: Buffer;
        };
      };
    };
  }

  beforeAll(async () => {
    upstream = await listen((incoming, response) => {
      upstreamSeen = {
        path: incoming.url ?? "",
        host: incoming.headers.host ?? "",
        headers: Object.fromEntries(
          Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]),
        ),
      };
      incoming.resume().on("end", () => response.end("upstream"));
    });
    sidecar = await listen((incoming, response) =>
      response.end(`sidecar ${incoming.url} ${incoming.headers.host}`),
    );
    grpc = await createGrpcServer({ listen: "127.0.0.1:0", services: [probe], peers: anyPeer });
    const [listenPort, adminPort] = [await freePort(), await freePort()];
    port = listenPort;
    const file = configFile("");
    const folder = dirname(file);
    write = (routes) => {
      writeFileSync(
        file,
        `${head}${envoySection(`, listen: "127.0.0.1:${listenPort}", admin: "127.0.0.1:${adminPort}", max_connections: 100`)}listen: {grpc: "${grpc.address}", http: "127.0.0.1:${sidecar.port}"}\nroutes:\n${routes}`,
      );
      const result = loadConfig(file, {});
      if (!result.ok) throw new Error(JSON.stringify(result.problems));
      writeXdsDir(result.config, join(folder, "xds"));
    };
    write(`
  - {id: root, from: https://h.example.com, to: "${upstream.url}/mcp", mcp: {}}
  - {id: team, from: https://h.example.com/team, to: "${upstream.url}/mcp/", mcp: {}}
  - {id: same, from: https://h.example.com/same, to: "${upstream.url}/same", mcp: {}}
  - {id: plain, from: https://h.example.com/plain, to: "${upstream.url}", preserve_host_header: true, mcp: {}}
  - {id: tools, from: https://h.example.com/tools, to: "${upstream.url}/mcp", tools: {deny: [x]}, mcp: {server: {max_request_bytes: 1KiB}}}
`);
    const bootstrap = readFileSync(join(folder, "xds", "bootstrap.yaml"), "utf8");
    running = await envoy({ bootstrap, folder, adminPort });
  });
  afterAll(async () => {
    await running?.close();
    await grpc?.drain(0);
    await Promise.all([upstream?.close(), sidecar?.close()]);
  });

  const ask = (
    path: string,
    options: { host?: string; headers?: Record<string, string>; body?: string } = {},
  ) =>
    new Promise<{ status: number; body: string; headers: NodeJS.Dict<string | string[]> }>(
      (resolve, reject) => {
        const host = options.host ?? "h.example.com";
        const sent = request(
          {
            host: "127.0.0.1",
            port,
            path,
            method: options.body === undefined ? "GET" : "POST",
            ca: tls.ca,
            servername: "h.example.com",
            headers: { host, ...options.headers },
          },
          (response) => {
            let body = "";
            response.on("data", (chunk: Buffer) => {
              body += chunk;
            });
            response.on("end", () =>
              resolve({ status: response.statusCode ?? 0, body, headers: response.headers }),
            );
          },
        );
        sent.on("error", reject).end(options.body);
      },
    );

  it.each([
    ["/", "/mcp"],
    ["/?a=b", "/mcp?a=b"],
    ["/x", "/mcp/x"],
    ["/mcp", "/mcp"],
    ["/mcp/x?q", "/mcp/x?q"],
    ["/mcpx", "/mcp/mcpx"],
    ["/team", "/mcp/"],
    ["/team/", "/mcp/"],
    ["/team/x", "/mcp/x"],
    ["/team/mcp", "/mcp/"],
    ["/team/mcp/x", "/mcp/x"],
    ["/teams", "/mcp/teams"],
    ["/same/x", "/same/x"],
    ["/plain/x", "/plain/x"],
    ["/a/../team/./x", "/mcp/x"],
    ["//team//x", "/mcp/x"],
  ])("sends %s to the upstream as %s", async (path, expected) => {
    expect(await ask(path)).toMatchObject({ status: 200, body: "upstream" });
    expect(upstreamSeen?.path).toBe(expected);
  });

  it.each([
    ["/.pomerium/mcp/routes", "h.example.com"],
    ["/.well-known/oauth-protected-resource/team?x=1", "h.example.com"],
    ["/oauth/token", "auth.example.com"],
    ["/.well-known/openid-configuration", "auth.example.com:443"],
  ])("sends the gateway's own %s of %s to the sidecar's HTTP listener, unchecked", async (path, host) => {
    checks.length = 0;
    expect((await ask(path, { host })).body).toBe(`sidecar ${path} ${host}`);
    expect(checks).toEqual([]);
  });

  it.each([
    ["/oauth/token", "h.example.com", "upstream"],
    ["/.pomeriumx", "h.example.com", "upstream"],
    ["/refused", "auth.example.com", "refused"],
    ["/refused", "stranger.example.com", "refused"],
    ["/anything", "stranger.example.com", ""],
  ])("checks %s of %s", async (path, host, body) => {
    checks.length = 0;
    const answer = await ask(path, { host });
    expect(checks.map((check) => check.path)).toEqual([path]);
    expect(answer.body).toBe(body);
    expect(answer.status).toBe(body === "upstream" ? 200 : 404);
  });

  it("removes x-pomerium-* and x-forwarded-host before the check, and names the upstream in Host", async () => {
    checks.length = 0;
    await ask("/x", {
      headers: {
        "X-Pomerium-Jwt-Assertion": "forged",
        "x-pomerium-claim-email": "forged",
        "X-Forwarded-Host": "forged",
      },
    });
    expect(checks[0]?.names.filter((name) => /pomerium|forwarded-host/.test(name))).toEqual([]);
    expect(upstreamSeen?.host).toBe(`127.0.0.1:${upstream.port}`);
    expect(upstreamSeen?.headers["x-forwarded-host"]).toBe("h.example.com");
    expect(Object.keys(upstreamSeen?.headers ?? {}).filter((name) => name.startsWith("x-pomerium"))).toEqual(
      [],
    );
    await ask("/plain");
    expect(upstreamSeen?.host).toBe("h.example.com");
  });

  it.each(["/a%2fb", "/a%5cb", "/team%2F..%2Fplain"])(
    "rejects the escaped slash in %s before the check",
    async (path) => {
      checks.length = 0;
      expect((await ask(path)).status).toBe(400);
      expect(checks).toEqual([]);
    },
  );

  it("sends the check a body only if policy inspects it, and more than policy reads of a body that is too long", async () => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping", params: { pad: "x".repeat(500) } });
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
    checks.length = 0;
    await ask("/team", { headers, body });
    await ask("/tools", { headers, body });
    // Then there is a check before the body, so that Envoy only buffers bodies of callers who may send one.
    expect(checks.map((check) => check.body)).toEqual([0, 0, body.length]);
    // Either Envoy rejects it, or the check detects it.
    const { status } = await ask("/tools", { headers, body: body + " ".repeat(1024) });
    expect([status, checks.at(-1)?.body]).toEqual(status === 413 ? [413, 0] : [200, 1025]);
  });

  it("passes bodies longer than the MCP filter reads completely", async () => {
    const body = JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "ping",
      params: { pad: "x".repeat(300_000) },
    });
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
    expect(await ask("/team", { headers, body })).toMatchObject({ status: 200, body: "upstream" });
    expect(Number(upstreamSeen?.headers["content-length"])).toBe(body.length);
  });

  it("adds a request id to every response", async () => {
    expect((await ask("/x")).headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("answers 431 to more than 100 headers, with a reason", async () => {
    const headers = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-header-${n}`, "x"]));
    checks.length = 0;
    expect(await ask("/x", { headers: headers(90) })).toMatchObject({ status: 200 });
    const answer = await ask("/x", { headers: headers(110) });
    expect([answer.status, JSON.parse(answer.body)]).toMatchObject([
      431,
      { error: "request_too_large", hop: "client", request_id: null },
    ]);
    expect(checks).toHaveLength(1);
  });

  it("closes connections beyond envoy.max_connections", async () => {
    const sockets = Array.from({ length: 120 }, () =>
      connect({ host: "127.0.0.1", port, ca: tls.ca, servername: "h.example.com" }),
    );
    const accepted = await Promise.all(
      sockets.map(
        (socket) =>
          new Promise<boolean>((resolve) => {
            socket.on("error", () => {}).once("secureConnect", () => resolve(true));
            socket.once("close", () => resolve(false));
          }),
      ),
    );
    const count = accepted.filter(Boolean).length;
    for (const socket of sockets) socket.destroy();
    expect([count > 50, count <= 100]).toEqual([true, true]);
    await expect.poll(() => ask("/x").then(({ status }) => status, String)).toBe(200);
  });

  it("loads rewritten files without a restart", async () => {
    write(`  - {id: root, from: https://h.example.com, to: "${upstream.url}/moved", mcp: {}}\n`);
    await expect
      .poll(async () => (await ask("/")).status === 200 && upstreamSeen?.path, { timeout: 60_000 })
      .toBe("/moved");
  });

  it("answers 503 when the sidecar cannot be reached", async () => {
    await grpc.drain(0);
    const answer = await ask("/x");
    expect(answer.status).toBe(503);
    expect(answer.headers["retry-after"]).toBe("1");
  });

  it("presents a renewed certificate that is moved into place, without a restart", async () => {
    const presented = () =>
      new Promise<string>((resolve, reject) => {
        const socket = connect({
          host: "127.0.0.1",
          port,
          servername: "h.example.com",
          rejectUnauthorized: false,
        });
        socket.on("secureConnect", () => {
          resolve(
            createHash("sha256")
              .update(socket.getPeerX509Certificate()?.raw ?? "")
              .digest("hex"),
          );
          socket.destroy();
        });
        socket.on("error", reject);
      });
    const before = await presented();
    const folder = dirname(tls.files.certificate);
    const renewed = await certificateAuthority(join(folder, "renewed"), ["h.example.com"]);
    for (const name of ["key", "certificate"] as const) {
      copyFileSync(renewed.files[name], `${tls.files[name]}.new`);
      renameSync(`${tls.files[name]}.new`, tls.files[name]);
    }
    await expect.poll(presented, { timeout: 60_000 }).not.toBe(before);
  });
});
