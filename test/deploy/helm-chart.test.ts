import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { valuesSchema } from "../../dev/docs/values-schema.ts";
import { chartReadme, valueRows } from "../../dev/docs/values-table.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { execForm, parseDockerfile } from "./dockerfile.ts";
import { type KubernetesObject, manifestsIn } from "./manifests.ts";
import { validateManifest } from "./validate-manifest.ts";

const chart = join(import.meta.dirname, "../../deploy/helm/envoy-mcp-auth");
const examples = readdirSync(join(chart, "examples"));
const read = (file: string) => readFileSync(join(chart, file), "utf8");
const rendered = (example: string) =>
  manifestsIn(readFileSync(join(import.meta.dirname, "../../deploy/kubernetes/rendered", example), "utf8"));
const of = (all: readonly KubernetesObject[], wanted: string) => all.filter(({ kind }) => kind === wanted);
const ajv = new Ajv2020({ strict: false });
const schema = ajv.compile(valuesSchema());

describe("the chart's values", () => {
  it("have the code's schema (make docs writes it)", () => {
    expect(JSON.parse(read("values.schema.json"))).toEqual(JSON.parse(JSON.stringify(valuesSchema())));
  });

  it("are all in the README's table, with a meaning (make docs writes it)", () => {
    expect(chartReadme(read("README.md"), read("values.yaml"))).toBe(read("README.md"));
    for (const { meaning } of valueRows(read("values.yaml"))) expect(meaning).toMatch(/^[`A-Z].*\.$/s);
    expect(() => valueRows("# A section.\na:\n  b: 1\n")).toThrow("a.b has no comment");
  });

  it("are all in the schema, and the schema has no others but the deprecated one", () => {
    const properties: Record<string, object> = Object(valuesSchema()).properties;
    const { replicas, ...current } = properties;
    expect(Object.keys(parse(read("values.yaml"))).sort()).toEqual(Object.keys(current).sort());
    expect(replicas).toMatchObject({ deprecated: true });
  });

  it.each(["values.yaml", ...examples.map((file) => `examples/${file}`)])("%s matches the schema", (file) => {
    expect([schema(parse(read(file))), ajv.errorsText(schema.errors)]).toEqual([true, "No errors"]);
  });

  it("of the chart before this one still match the schema", () => {
    const values = readFileSync(join(import.meta.dirname, "earlier-chart/values.yaml"), "utf8");
    expect([schema(parse(values)), ajv.errorsText(schema.errors)]).toEqual([true, "No errors"]);
  });

  it.each([
    { mode: "daemonset" },
    { replicaCount: 0 },
    { replicas: 0 },
    { replica: 2 },
    { env: [{ name: "A", value: "a secret in the values" }] },
    { config: { listen: { grpc: 50051 } } },
    { terminationGracePeriodSeconds: 5 },
    { image: { digest: "latest" } },
    { commonLabels: { team: 5 } },
    { service: { type: "ExternalName" } },
    { podDisruptionBudget: { minAvailable: "half" } },
    { proxy: { httpsProxy: "proxy.example.com:3128" } },
    { envoy: { image: { repository: "" } } },
    { fullnameOverride: "Not A Name" },
  ])("%j do not match the schema", (values) => {
    expect(schema(values)).toBe(false);
  });
});

describe.each(examples)("examples/%s, rendered", (file) => {
  it("has only objects and fields that Kubernetes knows", () => {
    for (const manifest of rendered(file)) validateManifest(manifest);
  });

  it("has a valid routes file, and pods that run as nobody with a read-only file system", async () => {
    const folder = await mkdtemp(join(tmpdir(), "chart-"));
    const all = rendered(file);
    const text: string = Object(of(all, "ConfigMap")[0]?.data)["routes.yaml"];
    writeFileSync(join(folder, "routes.yaml"), text, { mode: 0o644 });
    const deployment = JSON.stringify(of(all, "Deployment")[0]);
    const env: Record<string, string> = {};
    for (const [, name] of text.matchAll(/\$\{(\w+)\}/g)) {
      env[name ?? ""] = "x".repeat(40);
      expect(deployment).toContain(`"name":"${name}","valueFrom":{"secretKeyRef"`);
    }
    expect(
      loadConfig(join(folder, "routes.yaml"), env, { listeners: {} }).problems.map(formatProblem),
    ).toEqual([]);
    await rm(folder, { recursive: true });
    const pods = [
      Object(parse(deployment)).spec.template.spec,
      ...of(all, "Pod").map(({ spec }) => Object(spec)),
    ];
    for (const pod of pods) {
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 65532 });
      for (const container of [...pod.containers, ...(pod.initContainers ?? [])])
        expect(container.securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        });
    }
  });

  it("migrates the database before the program starts, with the same environment", () => {
    const { initContainers, containers } = Object(of(rendered(file), "Deployment")[0]?.spec).template.spec;
    expect(initContainers).toMatchObject([
      { name: "migrate", args: ["migrate", "--skip-indexes"], env: containers[0].env },
    ]);
  });

  it("has a NetworkPolicy that names pods for every port, and leaves none open to the cluster", () => {
    const policies = of(rendered(file), "NetworkPolicy");
    const [policy] = policies.filter(({ metadata }) => !metadata.name.endsWith("-test"));
    const rules: { ports: { port: string }[]; from?: object[] }[] = Object(policy?.spec).ingress;
    expect(rules.length).toBeGreaterThan(0);
    for (const { ports, from = [] } of rules) {
      // Envoy's own port is public.
      if (ports.every(({ port }) => port === "https")) continue;
      expect(from.length).toBeGreaterThan(0);
      for (const peer of from) expect(Object.keys(peer).sort()).toEqual(["namespaceSelector", "podSelector"]);
    }
    expect(rules.flatMap(({ ports }) => ports).some(({ port }) => port === "private")).toBe(
      file === "production.yaml",
    );
  });

  it("tests with the program that the image's health check uses", () => {
    const stage = parseDockerfile(readFileSync(join(import.meta.dirname, "../../Dockerfile"), "utf8")).at(-1);
    if (stage === undefined) throw new Error("the Dockerfile is empty");
    const [container] = Object(of(rendered(file), "Pod")[0]?.spec).containers;
    expect(container.command).toEqual(execForm(stage, "HEALTHCHECK").slice(0, 2));
  });

  it("admits the pod of `helm test` to the private port only while the test runs", () => {
    const all = rendered(file);
    const [test] = of(all, "Pod");
    const [policy] = of(all, "NetworkPolicy").filter(({ metadata }) => metadata.name.endsWith("-test"));
    const [{ from, ports }] = Object(policy?.spec).ingress;
    expect(ports).toEqual([{ port: "private" }]);
    expect(from).toEqual([{ podSelector: { matchLabels: Object(test?.metadata).labels } }]);
    expect(Object(policy?.metadata).annotations).toMatchObject({
      "helm.sh/hook": "test",
      "helm.sh/hook-delete-policy": expect.stringMatching(/hook-succeeded,hook-failed/),
    });
  });
});

it("this test's validation rejects what Kubernetes rejects: wrong types, and fields that it would drop", () => {
  const [deployment] = of(rendered("deployment.yaml"), "Deployment");
  if (deployment === undefined) throw new Error("no Deployment");
  expect(() =>
    validateManifest({ ...deployment, spec: { ...Object(deployment.spec), replicas: "two" } }),
  ).toThrow();
  const changed = structuredClone(deployment);
  Object(changed).spec.template.spec.containers[0].redinessProbe = {};
  expect(() => validateManifest(changed)).toThrow("redinessProbe");
});
