import { afterEach, describe, expect, it } from "vitest";
import { type Listener, listen } from "../../dev/demo/listen.ts";
import type { Config } from "../../src/config/config.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { createApp } from "../../src/server/http/public-endpoint.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { createDiscovery } from "../../src/xds/discovery.ts";
import { createEnvoys } from "../../src/xds/envoys.ts";
import { createPublication } from "../../src/xds/publication.ts";
import { configFile } from "../config/config-file.ts";
import { anyPeer } from "../support/any-peer.ts";

type Type = "clusters" | "routes" | "listeners";

/** A configuration whose route has these upstreams, in a file of its own. */
function config(...upstreams: string[]): Config {
  const routes = upstreams.map((to, index) => ({
    id: `r${index}`,
    from: `https://h${index}.example.com`,
    to,
    mcp: {},
  }));
  const file = configFile(
    JSON.stringify({
      issuer: "https://auth.example.com",
      listen: { envoy_secret: "s".repeat(43) },
      sign_in: { providers: [{ issuer: "https://id.example.com", client_id: "c" }] },
      policy: { allow: { or: [{ accept: true }] } },
      envoy: { tls: { certificate: "/etc/envoy/tls.crt", key: "/etc/envoy/tls.key" } },
      routes,
    }),
  );
  const loaded = loadConfig(file, {});
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.config;
}
const [one, two] = [config("http://one.internal"), config("http://two.internal")];

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** No wait ends by itself, ms. */
const long = { unchanged: 600_000, unknownVersion: 600_000, clustersFirst: 600_000, rejected: 600_000 };

/** What one sidecar serves, without TLS and authentication. */
async function start(from: Config, waits: Partial<typeof long> = {}) {
  const log: string[] = [];
  const logger = createLogger({ level: "info", destination: { write: (line) => void log.push(line) } });
  const metrics = createMetrics();
  const publication = createPublication(from);
  const envoys = createEnvoys({ publication, logger, metrics });
  const discovery = createDiscovery({
    publication,
    envoys,
    metrics,
    peers: anyPeer,
    onProven: () => {},
    waits: { ...long, ...waits },
  });
  const app = createApp(logger);
  app.use(discovery.middleware);
  const server: Listener = await listen(app.callback());
  closers.push(server.close, envoys.close, publication.close);
  return {
    publication,
    discovery,
    log,
    metrics,
    url: server.url,
    /** A request of an Envoy that has `version`. @returns undefined if there is nothing new */
    async ask(type: Type, version = "", node = "envoy-1") {
      const answer = await fetch(`${server.url}/v3/discovery:${type}`, {
        method: "POST",
        body: JSON.stringify({
          node: { id: node },
          ...(version === "" ? {} : { version_info: version }),
          ...(type === "routes" ? { resource_names: ["mcp"] } : {}),
        }),
      });
      if (answer.status === 304) return undefined;
      expect(answer.status).toBe(200);
      const body = (await answer.json()) as { version_info: string; type_url: string; resources: object[] };
      return { version: body.version_info, text: JSON.stringify(body) };
    },
  };
}

/** Whether `promise` has settled before a later request is answered. */
async function settledBefore(promise: Promise<unknown>, later: () => Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settling = promise.then(() => {
    settled = true;
  });
  await later();
  void settling;
  return settled;
}

describe("an Envoy that fetches its configuration", () => {
  it("gets everything at once when it starts, in the same version from every sidecar", async () => {
    const [first, second, other] = [await start(one), await start(one), await start(two)];
    for (const type of ["clusters", "routes", "listeners"] as const) {
      const [a, b, c] = [await first.ask(type), await second.ask(type), await other.ask(type)];
      expect(a?.text).toBe(b?.text);
      // The listener does not contain the routes, so that a change of them closes no connection.
      if (type === "listeners") expect(c?.text).toBe(a?.text);
      else expect(c?.version).not.toBe(a?.version);
    }
  });

  it("waits while nothing changes, and is answered when something does", async () => {
    const sidecar = await start(one);
    const clusters = await sidecar.ask("clusters");
    const waiting = sidecar.ask("clusters", clusters?.version);
    sidecar.publication.change(two);
    // Not answered before: that response would have had nothing new.
    expect((await waiting)?.text).toContain("two.internal");
  });

  it("gets the routes to a new upstream after it has applied its cluster, and keeps the former one's for a while", async () => {
    const sidecar = await start(one);
    const [clusters, routes] = [await sidecar.ask("clusters"), await sidecar.ask("routes")];
    // It has applied both.
    const waiting = [sidecar.ask("clusters", clusters?.version), sidecar.ask("routes", routes?.version)];
    sidecar.publication.change(two);
    const next = await waiting[0];
    expect(next?.text).toContain("one.internal");
    expect(next?.text).toContain("two.internal");
    await expect.poll(() => sidecar.publication.current("routes", "mcp")?.version).not.toBe(routes?.version);
    expect(await settledBefore(waiting[1] ?? Promise.resolve(), () => sidecar.ask("clusters"))).toBe(false);
    const applied = sidecar.ask("clusters", next?.version);
    expect((await waiting[1])?.text).toContain(two.routes[0]?.upstreamHash);
    sidecar.discovery.release();
    expect(await applied).toBeUndefined();
  });

  it("gets the routes in the end if it fetches its clusters elsewhere", async () => {
    const sidecar = await start(one, { clustersFirst: 0 });
    const routes = await sidecar.ask("routes");
    sidecar.publication.change(two);
    expect((await sidecar.ask("routes", routes?.version))?.text).toContain(two.routes[0]?.upstreamHash);
  });

  it("is not sent back to an older configuration by a sidecar that learns of a change a moment later", async () => {
    const [ahead, behind] = [await start(two), await start(one)];
    const clusters = await ahead.ask("clusters");
    const waiting = behind.ask("clusters", clusters?.version);
    expect(await settledBefore(waiting, () => behind.ask("clusters"))).toBe(false);
    behind.discovery.release();
    expect(await waiting).toBeUndefined();
  });

  it("takes over from a sidecar with another configuration that does not change", async () => {
    const [other, sidecar] = [await start(two), await start(one, { unknownVersion: 0 })];
    const clusters = await other.ask("clusters");
    expect((await sidecar.ask("clusters", clusters?.version))?.text).toContain("one.internal");
    expect(sidecar.log.join("")).toContain("fetches its configuration from this replica now");
  });

  it("is reported when it applies a version, and when it rejects one", async () => {
    const sidecar = await start(one, { rejected: 0 });
    const first = await sidecar.ask("listeners");
    sidecar.discovery.release();
    await sidecar.ask("listeners", first?.version);
    expect(sidecar.log.join("")).toMatch(
      new RegExp(`"node":"envoy-1".*"resources":"listeners","version":"${first?.version}".*applied a new`),
    );
    for (let attempt = 0; attempt < 3; attempt++) await sidecar.ask("listeners", "", "envoy-2");
    expect(sidecar.log.filter((line) => line.includes("does not apply"))).toEqual([
      expect.stringContaining('"node":"envoy-2"'),
    ]);
    await expect
      .poll(() => sidecar.metrics.registry.getSingleMetricAsString("envoy_mcp_auth_xds_envoys"))
      .toMatch(/state="current"} 1\n.*state="behind"} 1/);
  });

  it.each([
    ["version_info", { version_info: "v".repeat(201) }],
    ["resource_names", { resource_names: ["n".repeat(201)] }],
    ["node.id", { node: { id: "i".repeat(201) } }],
  ])("cannot have a long %s remembered", async (_member, given) => {
    const { url } = await start(one);
    const body = JSON.stringify({ resource_names: ["mcp"], ...given });
    const answer = await fetch(`${url}/v3/discovery:routes`, { method: "POST", body });
    expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining("longer than 200")]);
  });

  it("is answered at once while the sidecar stops", async () => {
    const sidecar = await start(one);
    const clusters = await sidecar.ask("clusters");
    const waiting = sidecar.ask("clusters", clusters?.version);
    sidecar.discovery.release();
    expect(await waiting).toBeUndefined();
    expect(await sidecar.ask("clusters", clusters?.version)).toBeUndefined();
    expect((await sidecar.ask("clusters"))?.version).toBe(clusters?.version);
  });
});
