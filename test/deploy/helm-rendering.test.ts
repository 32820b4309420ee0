import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { renderChart } from "../../dev/docs/render-chart.ts";
import { goTool } from "../../dev/go-tools.ts";
import { type KubernetesObject, manifestsIn } from "./manifests.ts";
import { validateManifest } from "./validate-manifest.ts";

const root = join(import.meta.dirname, "../..");
const chart = join(root, "deploy/helm/envoy-mcp-auth");
const examples = readdirSync(join(chart, "examples"));
const helm = await goTool("helm");
if (helm === undefined)
  console.warn("skipped: rendering the chart needs Helm on the PATH, or Go and: node dev/go-tools.ts helm");

/** Helm 4 ends most documents with blank lines, Helm 3 does not. */
const withoutBlankEnds = (yaml: string) => yaml.replace(/\s+(?=\n---\n|$)/g, "");

/** The objects of an example with other values; `{}` as example: the chart's defaults. */
async function render(example: string, values: object = {}): Promise<KubernetesObject[]> {
  const files = example === "" ? [] : ["--values", join(chart, "examples", example)];
  const line = ["template", "gateway", chart, "--namespace", "mcp", ...files, "--values", "-"];
  const running = promisify(execFile)(helm ?? "", line);
  running.child.stdin?.end(stringify(values));
  const { stdout } = await running;
  const all = manifestsIn(stdout);
  for (const manifest of all) validateManifest(manifest);
  return all;
}
const one = (all: readonly KubernetesObject[], kind: string, name = "") =>
  Object(all.find((manifest) => manifest.kind === kind && manifest.metadata.name.endsWith(name)));
const podOf = (all: readonly KubernetesObject[]) => one(all, "Deployment").spec.template.spec;
const failure = (example: string, values: object) =>
  render(example, values).then(
    () => "rendered",
    (error: { stderr?: string }) => String(error.stderr),
  );

describe.skipIf(helm === undefined)("the chart, rendered by Helm", () => {
  it.each(examples)("%s is rendered as in deploy/kubernetes/rendered (make docs writes it)", async (file) => {
    const written = readFileSync(join(root, "deploy/kubernetes/rendered", file), "utf8");
    const now = await renderChart(helm ?? "", join(chart, "examples", file));
    expect(withoutBlankEnds(now)).toBe(withoutBlankEnds(written));
  });

  it("is not installed with the default values: the message names the values and the fix", async () => {
    const message = await failure("", {});
    expect(message).toMatch(/image\.repository is empty: build the image \(docker build/);
    expect(message).toMatch(/config is empty: write the routes file under `config`/);
    expect(message).toMatch(/networkPolicy\.envoy is empty: name the pods of your Envoy/);
  });

  it.each([
    ["deployment.yaml", { image: { repository: "" } }, /image\.repository is empty/],
    ["deployment.yaml", { existingConfigMap: "mine" }, /config and existingConfigMap are both set/],
    ["deployment.yaml", { privateCa: { configMap: "a", secret: "b" } }, /privateCa\.secret are both set/],
    [
      "deployment.yaml",
      {
        config: { routes: [{ id: "all", from: "https://all.test", mcp: { aggregate: { routes: "all" } } }] },
      },
      /config\.aggregation\.through is not set: the pods reach the members of the aggregated route all/,
    ],
    ["deployment.yaml", { config: { workers: "auto" } }, /config\.workers is auto, but in deployment mode/],
    ["sidecar.yaml", { grpcTls: { secret: "grpc" } }, /in sidecar mode gRPC is a Unix socket/],
    ["deployment.yaml", { replicaCont: 3 }, /replicaCont/],
    ["deployment.yaml", { config: { issuer: 5 } }, /issuer/],
  ])("%s is not rendered with %j", async (example, values, expected) => {
    expect(await failure(example, values)).toMatch(expected);
  });

  it("is installed with an aggregated route if it says where Envoy is, or if Envoy is in the pod", async () => {
    const routes = [{ id: "all", from: "https://all.test", mcp: { aggregate: { routes: "all" } } }];
    const aggregation = { through: "https://envoy.ingress.svc" };
    expect(await failure("deployment.yaml", { config: { routes, aggregation } })).toBe("rendered");
    expect(await failure("sidecar.yaml", { config: { routes } })).toBe("rendered");
  });

  it("is installed with several workers where Envoy is in the pod, and with one everywhere", async () => {
    expect(await failure("sidecar.yaml", { config: { workers: 2 } })).toBe("rendered");
    expect(await failure("deployment.yaml", { config: { workers: 1 } })).toBe("rendered");
  });

  it("names images by registry, repository, tag and digest", async () => {
    const digest = `sha256:${"0".repeat(64)}`;
    const imageOf = async (image: object, global = {}) =>
      podOf(await render("deployment.yaml", { image: { tag: "", ...image }, global })).containers[0].image;
    const repository = "team/gateway";
    expect(await imageOf({ repository })).toMatch(/^team\/gateway:\d+\.\d+\.\d+$/);
    expect(await imageOf({ registry: "r.example:5000", repository, tag: "1" })).toBe(
      "r.example:5000/team/gateway:1",
    );
    expect(await imageOf({ repository, digest })).toBe(`team/gateway@${digest}`);
    expect(await imageOf({ repository, tag: "1", digest })).toBe(`team/gateway:1@${digest}`);
    expect(await imageOf({ repository, tag: "1" }, { imageRegistry: "r.example" })).toBe(
      "r.example/team/gateway:1",
    );
  });

  it("names everything after fullnameOverride, or release and nameOverride", async () => {
    const names = async (values: object) =>
      (await render("sidecar.yaml", values)).map(({ metadata }) =>
        metadata.name.replace(/-(gateway|private|test)$/, ""),
      );
    expect(new Set(await names({ fullnameOverride: "mcp" }))).toEqual(new Set(["mcp"]));
    expect(new Set(await names({ nameOverride: "auth" }))).toEqual(new Set(["gateway-auth"]));
  });

  it("passes on what Kubernetes knows: scheduling, security, environment, volumes, containers", async () => {
    const volume = { name: "more", emptyDir: {} };
    const mount = { name: "more", mountPath: "/more" };
    const container = { name: "extra", image: "extra:1" };
    const pod = podOf(
      await render("sidecar.yaml", {
        ...{
          priorityClassName: "high",
          nodeSelector: { zone: "a" },
          tolerations: [{ key: "k", operator: "Exists" }],
        },
        ...{ affinity: { podAntiAffinity: {} }, imagePullSecrets: [{ name: "pull" }] },
        topologySpreadConstraints: [{ maxSkew: 2, topologyKey: "zone", whenUnsatisfiable: "DoNotSchedule" }],
        ...{ podSecurityContext: { runAsUser: null, fsGroup: 7 }, securityContext: { privileged: false } },
        ...{ extraEnv: [{ name: "A", value: "b" }], extraEnvFrom: [{ secretRef: { name: "all" } }] },
        ...{ extraVolumes: [volume], extraVolumeMounts: [mount], extraContainers: [container] },
        ...{
          initContainers: [{ ...container, name: "first" }],
          lifecycle: { preStop: { sleep: { seconds: 3 } } },
        },
        proxy: { httpsProxy: "http://proxy.example.com:3128", noProxy: ".svc" },
        privateCa: { configMap: "company-ca", key: "company.pem" },
        serviceAccount: { create: false, name: "mine" },
        envoy: { securityContext: { runAsUser: 101 } },
      }),
    );
    expect(pod).toMatchObject({
      ...{ priorityClassName: "high", nodeSelector: { zone: "a" }, serviceAccountName: "mine" },
      ...{ topologySpreadConstraints: [{ maxSkew: 2 }], imagePullSecrets: [{ name: "pull" }] },
      securityContext: { runAsNonRoot: true, fsGroup: 7 },
    });
    expect(pod.securityContext.runAsUser).toBeUndefined();
    const [own, envoy, extra] = pod.containers;
    expect(pod.initContainers.map(({ name }: { name: string }) => name)).toEqual(["first", "migrate"]);
    for (const program of [own, pod.initContainers[1]]) {
      expect(program.securityContext).toMatchObject({ privileged: false, readOnlyRootFilesystem: true });
      expect(program.env).toContainEqual({ name: "A", value: "b" });
      expect(program.env).toContainEqual({ name: "HTTPS_PROXY", value: "http://proxy.example.com:3128" });
      expect(program.env).toContainEqual({ name: "NO_PROXY", value: ".svc" });
      expect(program.env).toContainEqual({
        name: "NODE_EXTRA_CA_CERTS",
        value: "/etc/envoy-mcp-auth-ca/ca.crt",
      });
      expect(program.envFrom).toEqual([{ secretRef: { name: "all" } }]);
      expect(program.volumeMounts).toContainEqual(mount);
    }
    expect(own.lifecycle).toEqual({ preStop: { sleep: { seconds: 3 } } });
    expect(envoy.securityContext).toMatchObject({ runAsUser: 101, readOnlyRootFilesystem: true });
    expect(extra).toEqual(container);
    const ca = {
      name: "private-ca",
      configMap: { name: "company-ca", items: [{ key: "company.pem", path: "ca.crt" }] },
    };
    expect(pod.volumes).toEqual(expect.arrayContaining([volume, ca]));
  });

  it("labels and annotates every object, pods and monitors in addition", async () => {
    const all = await render("production.yaml", {
      ...{ commonLabels: { team: "auth" }, commonAnnotations: { contact: "auth" } },
      ...{
        podLabels: { mesh: "none" },
        podAnnotations: { scrape: "none" },
        deploymentAnnotations: { reload: "auto" },
      },
      ...{ serviceMonitor: { labels: { release: "prom" } }, prometheusRule: { labels: { role: "alerts" } } },
    });
    for (const { kind, metadata } of all) {
      if (metadata.name.endsWith("-test")) continue;
      expect([kind, metadata]).toMatchObject([
        kind,
        { labels: { team: "auth" }, annotations: { contact: "auth" } },
      ]);
    }
    const deployment = one(all, "Deployment");
    expect(deployment.metadata.annotations).toMatchObject({ reload: "auto" });
    expect(deployment.spec.template.metadata).toMatchObject({
      labels: { mesh: "none", team: "auth" },
      annotations: { scrape: "none", contact: "auth" },
    });
    expect(deployment.spec.selector.matchLabels.team).toBeUndefined();
    expect(one(all, "ServiceMonitor").metadata.labels).toMatchObject({ release: "prom" });
    expect(one(all, "PrometheusRule").metadata.labels).toMatchObject({ role: "alerts" });
  });

  it("keeps a list of Envoy's secrets in the routes file, which a rotation needs", async () => {
    const secrets = ["ENVOY_SECRET", "ENVOY_SECRET_2"].map((name) => `\${${name}}`);
    const all = await render("deployment.yaml", { config: { listen: { envoy_secret: secrets } } });
    const { listen } = parse(one(all, "ConfigMap").data["routes.yaml"]);
    expect(listen).toMatchObject({ envoy_secret: secrets, grpc: "0.0.0.0:50051" });
  });

  it("probes, tests and scrapes the private port over https where the routes file sets its certificate", async () => {
    const admin_tls = { certificate: "/admin/tls.crt", key: "/admin/tls.key" };
    const all = await render("production.yaml", {
      config: { listen: { admin_tls } },
      readinessProbe: { httpGet: { path: "/readyz", port: "http" } },
      livenessProbe: { httpGet: { path: "/livez", port: 9090, scheme: "HTTP" } },
    });
    const [container] = podOf(all).containers;
    expect(container.startupProbe.httpGet).toEqual({ path: "/livez", port: "private", scheme: "HTTPS" });
    expect(container.livenessProbe.httpGet.scheme).toBe("HTTP");
    // The public port has no TLS.
    expect(container.readinessProbe.httpGet.scheme).toBeUndefined();
    expect(one(all, "Pod", "-test").spec.containers[0].args[0]).toContain("https://");
    expect(one(all, "ServiceMonitor").spec.endpoints).toMatchObject([
      { scheme: "https", tlsConfig: { insecureSkipVerify: true } },
    ]);
  });

  it("serves gRPC with TLS and named client certificates, in addition to the secret", async () => {
    const all = await render("deployment.yaml", {
      grpcTls: { secret: "grpc", clientNames: ["DNS:envoy.example.com"] },
    });
    const { listen } = parse(one(all, "ConfigMap").data["routes.yaml"]);
    expect(listen).toMatchObject({
      envoy_secret: [expect.stringMatching(/^\$\{ENVOY_SECRET\}$/)],
      grpc_tls: {
        certificate: "/etc/envoy-mcp-auth-grpc/tls.crt",
        client_ca: "/etc/envoy-mcp-auth-grpc/ca.crt",
        client_names: ["DNS:envoy.example.com"],
      },
    });
    expect(podOf(all).volumes).toContainEqual({ name: "grpc-tls", secret: { secretName: "grpc" } });
  });

  it("a budget of disruptions never blocks the drain of a node", async () => {
    const budget = async (values: object) => {
      const { selector: _selector, ...spec } = one(
        await render("deployment.yaml", values),
        "PodDisruptionBudget",
      ).spec;
      return spec;
    };
    expect(await budget({ replicaCount: 1 })).toEqual({ maxUnavailable: 1 });
    expect(await budget({ replicas: 1, podDisruptionBudget: { minAvailable: 1 } })).toEqual({
      maxUnavailable: 1,
    });
    expect(await budget({ replicaCount: 1, podDisruptionBudget: { minAvailable: "50%" } })).toEqual({
      maxUnavailable: 1,
    });
    expect(await budget({ podDisruptionBudget: { minAvailable: "50%" } })).toEqual({ minAvailable: "50%" });
    expect(await budget({ podDisruptionBudget: { minAvailable: "100%" } })).toEqual({ maxUnavailable: 1 });
    expect(await budget({ replicaCount: 3, podDisruptionBudget: { minAvailable: 2 } })).toEqual({
      minAvailable: 2,
    });
    expect(await budget({ podDisruptionBudget: { maxUnavailable: "25%" } })).toEqual({
      maxUnavailable: "25%",
    });
    const scaled = {
      autoscaling: { enabled: true, minReplicas: 1 },
      podDisruptionBudget: { minAvailable: 1 },
    };
    expect(await budget({ replicaCount: 5, ...scaled })).toEqual({ maxUnavailable: 1 });
  });

  it("replaces pods for a changed routes file only if it changes what is read at startup", async () => {
    const checksum = async (values: object) =>
      one(await render("deployment.yaml", values), "Deployment").spec.template.metadata.annotations?.[
        "checksum/config"
      ];
    const before = await checksum({});
    expect(before).toMatch(/^[0-9a-f]{64}$/);
    expect(await checksum({ config: { issuer: "https://other.example.com" } })).toBe(before);
    expect(await checksum({ config: { log: { level: "debug" } } })).not.toBe(before);
    const always = { rolloutOnConfigChange: "always" };
    expect(await checksum({ ...always, config: { issuer: "https://other.example.com" } })).not.toBe(
      await checksum(always),
    );
    expect(await checksum({ rolloutOnConfigChange: "never" })).toBeUndefined();
  });

  it("publishes Envoy by a Service of its own; the one that an Envoy calls stays ClusterIP in both modes", async () => {
    for (const example of ["deployment.yaml", "sidecar.yaml"])
      expect(one(await render(example), "Service", "-mcp-auth").spec.type).toBe("ClusterIP");
    const all = await render("sidecar.yaml", {
      envoy: { service: { type: "NodePort", nodePort: 30443, port: 8443 } },
    });
    expect(one(all, "Service", "-gateway").spec).toMatchObject({
      type: "NodePort",
      ports: [{ port: 8443, nodePort: 30443, targetPort: "https" }],
    });
    const kept = await render("sidecar.yaml", { envoy: { service: { name: "gateway-envoy-mcp-auth" } } });
    expect(kept.filter(({ kind }) => kind === "Service").map(({ metadata }) => metadata.name)).toEqual([
      "gateway-envoy-mcp-auth",
      "gateway-envoy-mcp-auth-private",
    ]);
  });
});
