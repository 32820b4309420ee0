import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { goTool } from "../../../../dev/go-tools.ts";
import { type KubernetesObject, manifestsIn } from "../../../deploy/manifests.ts";
import { aggregatedSample } from "../envoy-gateway/manifest.ts";
import { type KubernetesApiServer, startKubernetesApiServer } from "./api-server.ts";
import { runContainer } from "./container.ts";
import { installDefinitions } from "./definitions.ts";
import { chart, helmIn, missingForHelm } from "./helm.ts";
import { dataOf } from "./volumes.ts";

const binary = (await goTool("envoy-gateway")) ?? "";
const missing = await missingForHelm("envoy-gateway");
if (missing !== undefined) throw new Error(`make kubernetes needs ${missing}`);

const sample = join(import.meta.dirname, "../../../../deploy/kubernetes/envoy-gateway.yaml");
const system = "envoy-gateway-system";

/** `docs/envoy-gateway.md` has the same `extensionApis`. */
const configuration = {
  apiVersion: "gateway.envoyproxy.io/v1alpha1",
  kind: "EnvoyGateway",
  gateway: { controllerName: "gateway.envoyproxy.io/gatewayclass-controller" },
  provider: { type: "Kubernetes", kubernetes: { leaderElection: { disable: true } } },
  extensionApis: { enableBackend: true, enableEnvoyPatchPolicy: true },
};

/** Envoy Gateway as its chart deploys it, with its certificates where it expects them. */
async function startEnvoyGateway(api: KubernetesApiServer) {
  const folder = join(api.folder, "envoy-gateway");
  for (const name of ["", "certs", "config"]) mkdirSync(join(folder, name));
  await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: system } });
  const env = { ENVOY_GATEWAY_NAMESPACE: system, KUBECONFIG: "/kubernetes/kubeconfig" };
  const at = { env: { ...process.env, ...env, KUBECONFIG: api.kubeconfig } };
  await promisify(execFile)(binary, ["certgen", "--disable-topology-injector"], at);
  for (const [name, bytes] of Object.entries(await dataOf(api, system, "secrets", "envoy-gateway")))
    writeFileSync(join(folder, "certs", name), bytes);
  writeFileSync(join(folder, "config/config.yaml"), stringify(configuration));
  const mount = (name: string) => ({ name, mountPath: `/${name}` });
  return runContainer(
    {
      ...{ name: "envoy-gateway", image: "", args: ["server", "--config-path", "/config/config.yaml"] },
      volumeMounts: ["certs", "config"].map(mount),
    },
    {
      image: {
        entrypoint: ["envoy-gateway"],
        // The kubeconfig names the CA by its path.
        files: {
          "/image/bin/envoy-gateway": binary,
          "/kubernetes/kubeconfig": api.kubeconfig,
          [join(api.folder, "ca.pem")]: join(api.folder, "ca.pem"),
        },
      },
      ...{ env, securityContext: {}, hosts: "127.0.0.1 localhost\n", folder, logFile: join(folder, "log") },
      volumes: Object.fromEntries(["certs", "config"].map((name) => [name, join(folder, name)])),
    },
  );
}

/** As if the pods were ready: nothing runs them here. */
function endpointsOf(service: string): KubernetesObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "ready", namespace: "mcp", labels: { "kubernetes.io/service-name": service } },
    addressType: "IPv4",
    endpoints: [{ addresses: ["10.244.0.5"], conditions: { ready: true, serving: true } }],
    ports: [
      { name: "grpc", port: 50051, protocol: "TCP", appProtocol: "kubernetes.io/h2c" },
      { name: "http", port: 8080, protocol: "TCP", appProtocol: "http" },
    ],
  };
}

describe("Envoy Gateway, from a cluster with the chart and the sample", () => {
  let api: KubernetesApiServer;
  let gateway: Awaited<ReturnType<typeof startEnvoyGateway>>;
  // With an aggregated route, as docs/envoy-gateway.md describes it.
  const objects = [...manifestsIn(readFileSync(sample, "utf8")), ...aggregatedSample()];

  beforeAll(async () => {
    api = await startKubernetesApiServer({ controllers: true });
    await installDefinitions(api);
    const helm = await helmIn(api, "mcp");
    await helm.run(["install", "gateway", chart, "--values", join(chart, "examples/deployment.yaml")]);
    const [credential, certificate, key] = ["x".repeat(44), "tls.pem", "tls-key.pem"];
    const base64 = Buffer.from(credential).toString("base64");
    await helm.secret("envoy-mcp-auth", { credential, "credential-base64": base64 });
    const file = (name: string) => readFileSync(join(api.folder, name), "utf8");
    await api.apply({
      ...{ apiVersion: "v1", kind: "Secret", metadata: { name: "mcp-tls", namespace: "mcp" } },
      ...{ type: "kubernetes.io/tls", stringData: { "tls.crt": file(certificate), "tls.key": file(key) } },
    });
    await api.apply(endpointsOf("gateway-envoy-mcp-auth"));
    gateway = await startEnvoyGateway(api);
    for (const object of objects) expect((await api.apply(object)).warnings).toEqual([]);
  });
  afterAll(async () => {
    await gateway?.stop();
    await api?.close();
  });

  it("accepts every object of the sample and of an aggregated route, with all references resolved", async () => {
    const conditions = async () => {
      const found: string[] = [];
      for (const { apiVersion, kind, metadata } of objects) {
        const path = await api.collection({ apiVersion, kind, metadata });
        const { status } = await api.get(`${path}/${metadata.name}`);
        const { parents = [], ancestors = [], conditions: own = [] } = Object(status);
        const all = [...parents, ...ancestors].flatMap((one: { conditions: object[] }) => one.conditions);
        for (const one of [...own, ...all])
          found.push(`${kind} ${metadata.name}: ${one.type} ${one.status} ${one.message}`);
      }
      return found;
    };
    const attached = objects.filter(({ kind }) => !["HTTPRouteFilter"].includes(kind));
    const unaccepted = async () => {
      const all = await conditions();
      return attached
        .map(({ kind, metadata }) => `${kind} ${metadata.name}: Accepted True`)
        .filter((wanted) => !all.some((one) => one.startsWith(wanted)));
    };
    const log = () => readFileSync(join(api.folder, "envoy-gateway/log"), "utf8").slice(-3_000);
    try {
      await expect.poll(unaccepted).toEqual([]);
    } catch (error) {
      const status = (await conditions()).filter((one) => / False /.test(one)).join("\n");
      throw new Error(`${status}\nEnvoy Gateway's log:\n${log()}`, { cause: error });
    }
    const problems = (await conditions()).filter((one) => / (Accepted|ResolvedRefs) False/.test(one));
    expect(problems).toEqual([]);
  });
});
