import { dirname } from "node:path";
import type { sendUnaryData } from "@grpc/grpc-js";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { type CertificateAuthority, certificateAuthority } from "../../dev/demo/certificate-authority.ts";
import { envoy } from "../../dev/demo/envoy.ts";
import { freePort } from "../../dev/demo/free-port.ts";
import { listen } from "../../dev/demo/listen.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { envoyBootstrap } from "../../src/envoy-config/bootstrap.ts";
import { createGrpcServer } from "../../src/server/grpc/grpc-server.ts";
import { loadGrpcService } from "../../src/server/grpc/unary.ts";
import { configFile } from "../config/config-file.ts";
import { anyPeer } from "../support/any-peer.ts";
import { throughEnvoy } from "../support/through-envoy.ts";

describe("Envoy with the generated configuration and two replicas", () => {
  let tls: CertificateAuthority;
  const closers: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    tls = await certificateAuthority(dirname(configFile("")), ["h.example.com"]);
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  /** A replica whose listeners report their name and health. */
  async function replica(name: string) {
    const state = { well: true };
    const http = await listen((incoming, response) => {
      const health = incoming.url === "/readyz";
      response.writeHead(health && !state.well ? 503 : 200).end(name);
    });
    const allow = (_call: unknown, callback: sendUnaryData<object>) =>
      callback(null, { status: { code: 0 } });
    const grpc = await createGrpcServer({
      listen: "127.0.0.1:0",
      peers: anyPeer,
      services: [
        {
          definition: loadGrpcService(
            "envoy/service/auth/v3/external_auth.proto",
            "envoy.service.auth.v3.Authorization",
          ),
          implementation: { Check: allow },
        },
      ],
    });
    const close = () => Promise.all([http.close(), grpc.drain(0)]);
    closers.push(close);
    return { state, close, grpc: grpc.address, http: `127.0.0.1:${http.port}` };
  }

  /** Envoy in front of both, with health checks every `interval`. */
  async function start(interval: string) {
    const [one, two] = [await replica("one"), await replica("two")];
    const upstream = await listen((_incoming, response) => response.end("upstream"));
    closers.push(upstream.close);
    const [port, adminPort, memberPort] = [await freePort(), await freePort(), await freePort()];
    const file = configFile(
      JSON.stringify({
        issuer: "https://h.example.com",
        sign_in: { providers: [{ issuer: "https://id.example.com", client_id: "c" }] },
        policy: { allow: { or: [{ accept: true }] } },
        envoy: {
          tls: { certificate: tls.files.certificate, key: tls.files.key },
          listen: `127.0.0.1:${port}`,
          admin: `127.0.0.1:${adminPort}`,
          sidecar: { grpc: [one.grpc, two.grpc], http: [one.http, two.http] },
        },
        aggregation: { listen: `127.0.0.1:${memberPort}` },
        routes: [
          { id: "r", from: "https://h.example.com", to: upstream.url, mcp: {} },
          { id: "all", from: "https://h.example.com/all", mcp: { aggregate: { routes: "all" } } },
        ],
      }),
    );
    const result = loadConfig(file, {});
    if (!result.ok) throw new Error(JSON.stringify(result.problems));
    const bootstrap = JSON.stringify(envoyBootstrap(result.config))
      .replaceAll(
        /"(interval|no_traffic_interval)":"1s"/g,
        `"$1":"${interval}"`,
        // The replicas run in this process: a short stall must not make one look dead.
      )
      .replaceAll('"timeout":"2s"', '"timeout":"20s"');
    const running = await envoy({ bootstrap, folder: dirname(file), adminPort });
    closers.push(running.close);
    const address = { envoyPort: port, ca: tls };
    return {
      one,
      two,
      ask: (path: string, headers: Record<string, string> = {}) =>
        throughEnvoy(address, { url: `https://h.example.com${path}`, headers }),
      /** Envoy's health state of the second replica's HTTP and gRPC listeners. */
      async flags() {
        const text = await (await fetch(`http://127.0.0.1:${adminPort}/clusters`)).text();
        // Two clusters have the HTTP listener: each has its own state.
        const of = (address: string) =>
          [
            ...new Set(
              [...text.matchAll(new RegExp(`${address}::health_flags::(.*)`, "g"))].map(([, flag]) => flag),
            ),
          ].join();
        return [of(two.http), of(two.grpc)];
      },
    };
  }
  const own = "/.well-known/oauth-protected-resource";

  it("skips a stopping replica as soon as it has been notified, even right after the previous change", async () => {
    const { two, ask, flags } = await start("0.2s");
    await expect.poll(flags, { timeout: 60_000 }).toEqual(["healthy", "healthy"]);
    for (let round = 0; round < 4; round++) {
      two.state.well = false;
      await expect.poll(flags, { timeout: 60_000, interval: 10 }).toContain("/failed_active_hc");
      const answers = await Promise.all(Array.from({ length: 16 }, () => ask(own)));
      expect(new Set(answers.map(({ body }) => body))).toEqual(new Set(["one"]));
      two.state.well = true;
      await expect.poll(flags, { timeout: 60_000, interval: 10 }).toEqual(["healthy", "healthy"]);
    }
  });

  it("keeps a session of an aggregated route at one replica, and moves it when that one stops", async () => {
    const { one, two, ask, flags } = await start("0.2s");
    await expect.poll(flags, { timeout: 60_000 }).toEqual(["healthy", "healthy"]);
    const at = async (session: string) => (await ask("/all", { "mcp-session-id": session })).body;
    const sessions = Array.from({ length: 40 }, (_, index) => `session-${index}`);
    const first = await Promise.all(sessions.map(at));
    expect(new Set(first)).toEqual(new Set(["one", "two"]));
    for (let again = 0; again < 3; again++) expect(await Promise.all(sessions.map(at))).toEqual(first);
    const others = await Promise.all(Array.from({ length: 40 }, () => ask("/all")));
    expect(new Set(others.map(({ body }) => body))).toEqual(new Set(["one", "two"]));

    const [moved = ""] = sessions;
    const stopping = first[0] === "one" ? one : two;
    stopping.state.well = false;
    await expect
      .poll(() => at(moved), { timeout: 60_000, interval: 50 })
      .toBe(first[0] === "one" ? "two" : "one");
    stopping.state.well = true;
    await expect.poll(() => at(moved), { timeout: 60_000, interval: 50 }).toBe(first[0]);
  });

  it("calls the other replica when one has died and Envoy has not noticed yet", async () => {
    const { two, ask, flags } = await start("60s");
    await expect.poll(flags, { timeout: 60_000 }).toEqual(["healthy", "healthy"]);
    const callers = (path: string) =>
      Array.from({ length: 16 }, async () => {
        const answers: number[] = [];
        for (let call = 0; call < 25; call++) answers.push((await ask(path)).status);
        return answers;
      });
    await two.close();
    const answers = await Promise.all([...callers(own), ...callers("/mcp")]);
    expect(answers.flat().filter((status) => status !== 200)).toEqual([]);
    expect(await flags()).toEqual(["healthy", "healthy"]);
  });
});
