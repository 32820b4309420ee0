import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { manifestsIn } from "../../../deploy/manifests.ts";
import { type KubernetesApiServer, startKubernetesApiServer } from "./api-server.ts";
import { installDefinitions } from "./definitions.ts";
import { chart, earlierChart, type Helm, helmIn, missingForHelm } from "./helm.ts";

const missing = await missingForHelm();
if (missing !== undefined) throw new Error(`make kubernetes needs ${missing}`);

const kubernetes = join(import.meta.dirname, "../../../../deploy/kubernetes");
const example = (name: string) => join(chart, "examples", name);
const objectsOf = (file: string) => manifestsIn(readFileSync(file, "utf8"));
const name = "gateway-envoy-mcp-auth";
let api: KubernetesApiServer;
let spaces = 0;

beforeAll(async () => {
  api = await startKubernetesApiServer({ controllers: true });
  await installDefinitions(api);
});
afterAll(() => api?.close());

const space = () => helmIn(api, `test-${++spaces}`);
const services = async (helm: Helm) =>
  Object.fromEntries(
    (await helm.list("v1/services")).map(({ metadata, spec }) => [metadata.name, Object(spec).type]),
  );
/** The pods that the controllers have created of the Deployment, which the namespace admitted. */
const pods = async (helm: Helm) =>
  (await helm.list("v1/pods")).filter(({ metadata }) => !metadata.name.endsWith("-test"));

describe("the chart on a Kubernetes API server", () => {
  it.each(readdirSync(join(chart, "examples")))(
    "%s is installed, upgraded in place and uninstalled",
    async (file) => {
      const helm = await space();
      const printed = await helm.run(["install", "gateway", chart, "--values", example(file)]);
      expect(printed).toContain("STATUS: deployed");
      const {
        mode = "deployment",
        replicaCount = 2,
        autoscaling,
      } = parse(readFileSync(example(file), "utf8"));
      expect(printed).toContain(`is installed in test-${spaces}, mode ${mode}.`);
      // Each was admitted by Pod Security `restricted`. An autoscaler adds to the first.
      await expect.poll(async () => (await pods(helm)).length).toBe(autoscaling ? 1 : replicaCount);
      const monitored = file === "production.yaml" ? 1 : 0;
      for (const resource of ["servicemonitors", "prometheusrules"])
        expect(await helm.list(`monitoring.coreos.com/v1/${resource}`)).toHaveLength(monitored);
      await helm.run(["upgrade", "gateway", chart, "--values", example(file)]);
      expect(Object((await helm.list("apps/v1/deployments"))[0]?.metadata).generation).toBe(1);
      await helm.run(["uninstall", "gateway"]);
      for (const resource of [
        "v1/services",
        "v1/configmaps",
        "apps/v1/deployments",
        "policy/v1/poddisruptionbudgets",
      ])
        expect(
          (await helm.list(resource)).filter(({ metadata }) => metadata.name.startsWith("gateway")),
        ).toEqual([]);
    },
  );

  it("the pod of `helm test` is admitted, too", async () => {
    const helm = await space();
    await helm.run(["install", "gateway", chart, "--values", example("deployment.yaml")]);
    const hooks = manifestsIn(await helm.run(["get", "hooks", "gateway"]));
    for (const hook of hooks) await api.create(hook, `test-${spaces}`, { dryRun: true });
    expect(hooks.map(({ kind }) => kind).sort()).toEqual(["NetworkPolicy", "Pod"]);
    const privileged = structuredClone(hooks.find(({ kind }) => kind === "Pod"));
    Object(privileged).spec.hostNetwork = true;
    await expect(api.create(Object(privileged), `test-${spaces}`, { dryRun: true })).rejects.toThrow(
      /PodSecurity/,
    );
  });

  it("rejects values that lead to fields which Kubernetes does not know", async () => {
    const helm = await space();
    const args = ["install", "gateway", chart, "--values", example("deployment.yaml"), "--values", "-"];
    await expect(helm.run(args, { affinity: { nodeAfinity: {} } })).rejects.toThrow(
      /nodeAfinity: field not declared/,
    );
  });
});

describe("a release of the earlier chart, with all of its values", () => {
  const values = (mode: string, more: object = {}) => {
    const { config } = parse(readFileSync(example(`${mode}.yaml`), "utf8"));
    const networkPolicy = { envoy: [{ podSelector: { matchLabels: { app: "envoy" } } }] };
    return {
      ...parse(readFileSync(join(earlierChart, "values.yaml"), "utf8")),
      mode,
      config,
      networkPolicy,
      ...more,
    };
  };
  const installed = async (mode: string, more?: object) => {
    const helm = await space();
    await helm.run(["install", "gateway", earlierChart, "--values", "-"], values(mode, more));
    return helm;
  };

  it.each([
    ["the values file", ["--values", "-"]],
    ["--reuse-values", ["--reuse-values"]],
    ["--reset-then-reuse-values", ["--reset-then-reuse-values"]],
  ])("is upgraded with %s: pods, names and the number of replicas stay", async (_how, args) => {
    const helm = await installed("deployment", { replicas: 3 });
    const before = await helm.list("apps/v1/deployments");
    const printed = await helm.run(
      ["upgrade", "gateway", chart, ...args],
      values("deployment", { replicas: 3 }),
    );
    expect(printed).toContain("DEPRECATED: `replicas` is now `replicaCount`");
    const after = await helm.list("apps/v1/deployments");
    expect(after.map(({ metadata }) => Object(metadata).uid)).toEqual(
      before.map(({ metadata }) => Object(metadata).uid),
    );
    expect(after[0]?.spec).toMatchObject({ replicas: 3, selector: Object(before[0]?.spec).selector });
    expect(await services(helm)).toEqual({ [name]: "ClusterIP", [`${name}-private`]: "ClusterIP" });
    await expect.poll(async () => (await pods(helm)).length).toBeGreaterThanOrEqual(3);
  });

  it("changes to sidecar mode without publishing the Service that an Envoy calls", async () => {
    const helm = await installed("deployment");
    await helm.run(["upgrade", "gateway", chart, "--values", "-"], values("deployment"));
    for (const type of ["ClusterIP", "LoadBalancer", "LoadBalancer"]) {
      await helm.run(
        ["upgrade", "gateway", chart, "--values", "-"],
        values("sidecar", { service: { type } }),
      );
      expect(await services(helm)).toEqual({
        [name]: type,
        [`${name}-gateway`]: "LoadBalancer",
        [`${name}-private`]: "ClusterIP",
      });
    }
    await helm.run(["rollback", "gateway", "1"]);
    expect(Object.keys(await services(helm))).not.toContain(`${name}-gateway`);
  });

  it("in sidecar mode keeps its load balancer and its address", async () => {
    const helm = await installed("sidecar");
    const service = async () =>
      Object((await helm.list("v1/services")).find(({ metadata }) => metadata.name === name)?.spec);
    const { clusterIP, ports } = await service();
    for (const _again of ["once", "twice"]) {
      await helm.run(["upgrade", "gateway", chart, "--values", "-"], values("sidecar"));
      expect(await service()).toMatchObject({
        type: "LoadBalancer",
        clusterIP,
        ports: [{ nodePort: ports[0].nodePort }],
      });
      expect(await services(helm)).toEqual({ [name]: "LoadBalancer", [`${name}-private`]: "ClusterIP" });
    }
  });
});

describe("deploy/kubernetes, applied with strict validation", () => {
  it.each(readdirSync(join(kubernetes, "rendered")))("rendered/%s", async (file) => {
    const namespace = `rendered-${file.replace(".yaml", "")}`;
    await helmIn(api, namespace);
    for (const object of objectsOf(join(kubernetes, "rendered", file)))
      expect((await api.apply(object, namespace)).warnings).toEqual([]);
  });

  it.each(["envoy-gateway.yaml", "istio.yaml"])("%s", async (file) => {
    const objects = objectsOf(join(kubernetes, file));
    for (const { metadata } of objects)
      if (metadata.namespace)
        await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: metadata.namespace } });
    for (const object of objects) expect((await api.apply(object)).warnings).toEqual([]);
  });
});
