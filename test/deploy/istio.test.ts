import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { envoyBinary } from "../../envoy/envoy-binary.ts";
import type { Config } from "../../src/config/config.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { challengeFilter } from "../../src/envoy-config/ext-proc-filter.ts";
import { mcpAnswerHeaders } from "../../src/envoy-config/routes.ts";
import { manifestsIn } from "./manifests.ts";
import { validateManifest } from "./validate-manifest.ts";

/*
 * What the API server and Istio would reject, or accept and ignore, in deploy/kubernetes/istio.yaml. `make istio` runs it on both; this
 * test needs neither. `schemas/istio.json` is from Istio's own CustomResourceDefinitions.
 */
const folder = join(import.meta.dirname, "../../deploy/kubernetes");
const text = readFileSync(join(folder, "istio.yaml"), "utf8");
const all = manifestsIn(text);
const specs = (kind: string) => all.filter((one) => one.kind === kind).map(({ spec }) => Object(spec));

describe("istio.yaml", () => {
  test.each(all.map((manifest) => [`${manifest.kind} ${manifest.metadata.name}`, manifest] as const))(
    "%s has only fields that Istio's definitions have, and valid values",
    (_name, manifest) => validateManifest(manifest),
  );

  test.each([
    ["Gateway", "servers", [{ host: "*" }]],
    ["VirtualService", "https", []],
    ["ServiceEntry", "resolution", "SYSTEM"],
    ["DestinationRule", "trafficPolicy", { tls: { mode: "SIMPLE", subjectAltName: [] } }],
    ["EnvoyFilter", "configPatches", [{ applyTo: "HTTP_FILTER", patch: { operation: "UPDATE" } }]],
    ["AuthorizationPolicy", "rules", [{ to: [{ operation: { notPath: ["/"] } }] }]],
  ])("a %s with another `%s` is rejected by this test", (kind, field, value) => {
    const manifest = all.find((one) => one.kind === kind);
    if (manifest === undefined) throw new Error(`no ${kind}`);
    expect(() =>
      validateManifest({ ...manifest, spec: { ...Object(manifest.spec), [field]: value } }),
    ).toThrow();
  });

  test("no duration is zero: the API server admits only longer ones (a rule in CEL)", () => {
    for (const kind of ["VirtualService", "DestinationRule"])
      for (const spec of specs(kind))
        expect(JSON.stringify(spec)).not.toMatch(/"(\w*[tT]imeout|interval|time|maxAge)":"0+(\.0*)?m?s"/);
  });

  test("TLS to a server outside verifies its CA and its name, and is for the gateway's namespace only", () => {
    const hosts = specs("ServiceEntry").flatMap(({ hosts, location, exportTo }) => {
      expect([location, exportTo]).toEqual(["MESH_EXTERNAL", ["."]]);
      return hosts;
    });
    expect(hosts.length).toBeGreaterThan(0);
    for (const host of hosts) {
      const rule = specs("DestinationRule").find((one) => one.host === host);
      expect(rule?.exportTo).toEqual(["."]);
      // With `sni` and without `subjectAltNames`, Istio does not compare the certificate's name.
      expect(rule?.trafficPolicy.tls).toEqual({
        mode: "SIMPLE",
        sni: host,
        subjectAltNames: [host],
        caCertificates: "system",
      });
    }
  });

  test("removes the response headers that the generated configuration removes, and cookies", () => {
    const names = mcpAnswerHeaders.response_headers_to_remove;
    const added = z
      .array(z.object({ header: z.object({ key: z.string(), value: z.string() }) }))
      .parse(mcpAnswerHeaders.response_headers_to_add);
    const set = Object.fromEntries(added.map(({ header }) => [header.key, header.value]));
    const routes = specs("VirtualService")
      .flatMap(({ http }) => http)
      .filter(({ name }) => !["mcp-own", "mcp-none"].includes(name));
    expect(routes.length).toBeGreaterThan(0);
    for (const { headers } of routes)
      expect(headers.response).toEqual({ set, remove: ["set-cookie", ...z.array(z.string()).parse(names)] });
  });

  test("has the response filter of the generated configuration", () => {
    const [filter] = patches().filter(({ patch }) => patch.value.name === "envoy_mcp_auth.challenge");
    const service = {
      envoy_grpc: {
        cluster_name: "outbound|50051||gateway-envoy-mcp-auth.mcp.svc.cluster.local",
        // Without it, Node's HTTP/2 rejects the call: the name of the cluster is not an authority.
        authority: "gateway-envoy-mcp-auth.mcp.svc.cluster.local",
      },
      initial_metadata: [{ key: "x-mcp-auth-secret", value: `${"$"}{ENVOY_SECRET}` }],
    };
    const generated = JSON.parse(JSON.stringify(challengeFilter(generatedConfig())), (key, value) =>
      key === "grpc_service" ? service : key === "message_timeout" ? "6s" : value,
    );
    expect(filter?.patch.value).toEqual(generated);
  });

  test("only requests that have not reached a server are sent again", () => {
    for (const { http } of specs("VirtualService"))
      for (const { route, retries } of http)
        if (route) expect(retries.retryOn).toBe("connect-failure,refused-stream");
  });
});

test("istio-mesh-config.yaml has only fields of MeshConfig: Istio ignores others silently", () => {
  const whole = parse(readFileSync(join(folder, "istio-mesh-config.yaml"), "utf8"));
  z.strictObject({
    pathNormalization: z.strictObject({ normalization: z.literal("MERGE_SLASHES") }),
    extensionProviders: z.tuple([
      z.strictObject({
        name: z.string().regex(/^[a-z0-9-]+$/),
        envoyExtAuthzGrpc: z.strictObject({
          service: z.string(),
          port: z.int(),
          timeout: z.string().regex(/^\d+s$/),
          failOpen: z.literal(false),
          statusOnError: z.literal("503"),
          includeRequestBodyInCheck: z.strictObject({
            maxRequestBytes: z.int(),
            allowPartialMessage: z.literal(false),
            packAsBytes: z.literal(true),
          }),
        }),
      }),
    ]),
  }).parse(whole);
});

/** Istio passes patches on to Envoy; fields that istiod does not know it drops, with a warning. */
describe("the patches of the EnvoyFilters", () => {
  let files: string;
  beforeAll(async () => {
    files = await mkdtemp(join(tmpdir(), "istio-"));
  });
  afterAll(() => rm(files, { recursive: true, force: true }));

  const accepts = async (filters: readonly Patch[]) => {
    const file = join(files, "bootstrap.json");
    await writeFile(file, JSON.stringify(bootstrapOf(filters)));
    await promisify(execFile)(await envoyBinary(), ["--mode", "validate", "-c", file]);
  };

  test("are accepted by Envoy, which rejects unknown fields", () => accepts(patches()));

  test.each([
    ["stream_flush_timeout", "stream_flush_timeouts"],
    ["transport_socket_connect_timeout", "transport_connect_timeout"],
    ["max_connections_to_accept_per_socket_event", "max_connections_to_accept"],
    ["encode_raw_headers", "raw_headers"],
    ["context_extensions", "extensions"],
    ["allow_mode_override", "mode_override"],
    ["remove_on_match", "remove_if"],
  ])("with another name for %s, they are rejected by this test", async (name, other) => {
    const changed = JSON.parse(JSON.stringify(patches()).replaceAll(`"${name}"`, `"${other}"`));
    await expect(accepts(changed)).rejects.toThrow(other);
  });
});

/** Of the route in the sample. */
function generatedConfig(): Config {
  const own = mkdtempSync(join(tmpdir(), "istio-"));
  const file = join(own, "routes.yaml");
  const config = {
    issuer: "https://mcp.example.com",
    listen: { grpc_authentication: "none" },
    sign_in: { providers: [{ issuer: "https://id.test", client_id: "c" }] },
    routes: [],
  };
  writeFileSync(file, JSON.stringify(config));
  const loaded = loadConfig(file, {}, { listeners: {} });
  rmSync(own, { recursive: true });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.config;
}

interface Patch {
  readonly applyTo: string;
  readonly patch: { readonly value: Readonly<Record<string, unknown>> };
}

function patches(): Patch[] {
  return specs("EnvoyFilter").flatMap(({ configPatches }) => configPatches);
}

/** An Envoy whose one listener consists of the patches. */
function bootstrapOf(filters: readonly Patch[]): object {
  const values = (kind: string) =>
    filters.filter(({ applyTo }) => applyTo === kind).map(({ patch }) => patch.value);
  const [{ typed_config: manager } = {}] = values("NETWORK_FILTER");
  const cluster = "outbound|50051||gateway-envoy-mcp-auth.mcp.svc.cluster.local";
  const httpFilters = values("HTTP_FILTER").map((filter) =>
    String(filter.name) === "envoy.filters.http.ext_authz" ? withService(filter, cluster) : filter,
  );
  const connectionManager = {
    ...Object(manager),
    stat_prefix: "istio",
    http_filters: [
      ...httpFilters,
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
      },
    ],
    route_config: {
      name: "routes",
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: values("HTTP_ROUTE").map((route) => ({
            match: { prefix: "/" },
            direct_response: { status: 404 },
            ...route,
          })),
        },
      ],
    },
  };
  return {
    static_resources: {
      listeners: [
        {
          name: "listener",
          address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
          ...Object.assign({}, ...values("LISTENER")),
          filter_chains: [
            {
              ...Object.assign({}, ...values("FILTER_CHAIN")),
              filters: [
                { name: "envoy.filters.network.http_connection_manager", typed_config: connectionManager },
              ],
            },
          ],
        },
      ],
      clusters: [{ name: cluster, connect_timeout: "1s", load_assignment: { cluster_name: cluster } }],
    },
  };
}

/** The patch of ext_authz is merged into Istio's, which names the service. */
function withService(filter: Readonly<Record<string, unknown>>, cluster: string): object {
  const config = Object(filter.typed_config);
  const service = { envoy_grpc: { cluster_name: cluster }, ...config.grpc_service };
  return { ...filter, typed_config: { ...config, grpc_service: service } };
}
