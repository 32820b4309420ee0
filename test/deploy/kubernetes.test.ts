import { execFile } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { renderChart } from "../../dev/docs/render-chart.ts";
import { valuesSchema } from "../../dev/docs/values-schema.ts";
import { goTool } from "../../dev/go-tools.ts";
import { loadConfig } from "../../src/config/load-config.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { type Manifest, validateManifest } from "./validate-manifest.ts";

const kubernetes = join(import.meta.dirname, "../../deploy/kubernetes");
const chart = join(import.meta.dirname, "../../deploy/helm/envoy-mcp-auth");
const examples = readdirSync(join(chart, "examples"));
const manifests = (file: string): Manifest[] =>
  parseAllDocuments(readFileSync(file, "utf8"))
    .map((document) => document.toJS())
    .filter((manifest) => manifest !== null);
const rendered = (example: string) => manifests(join(kubernetes, "rendered", example));
/** Helm 4 ends most documents with blank lines, Helm 3 does not. */
const withoutBlankEnds = (yaml: string) => yaml.replace(/\s+(?=\n---\n|$)/g, "");
const ajv = new Ajv2020({ strict: false });

describe("Helm chart", () => {
  let helm: string | undefined;
  beforeAll(async () => {
    helm = await goTool("helm");
  });

  it("the schema of its values is the code's (make docs writes it)", () => {
    const written = JSON.parse(readFileSync(join(chart, "values.schema.json"), "utf8"));
    expect(written).toEqual(JSON.parse(JSON.stringify(valuesSchema())));
  });

  it.each(["values.yaml", ...examples.map((file) => `examples/${file}`)])("%s matches its schema", (file) => {
    const valid = ajv.validate(valuesSchema(), parse(readFileSync(join(chart, file), "utf8")));
    expect([valid, ajv.errorsText()]).toEqual([true, "No errors"]);
  });

  it.each([
    { mode: "daemonset" },
    { replicas: 0 },
    { replica: 2 },
    { env: [{ name: "A", value: "a secret in the values" }] },
    { config: { listen: { grpc: 50051 } } },
    { terminationGracePeriodSeconds: 5 },
  ])("the schema rejects %j", (values) => {
    expect(ajv.validate(valuesSchema(), values)).toBe(false);
  });

  it.each(examples)(
    "%s is rendered as in deploy/kubernetes/rendered (if Helm is installed)",
    async (file) => {
      if (helm === undefined) return expect(rendered(file).length).toBeGreaterThan(5);
      const now = await renderChart(helm, join(chart, "examples", file));
      const written = readFileSync(join(kubernetes, "rendered", file), "utf8");
      expect(withoutBlankEnds(now)).toBe(withoutBlankEnds(written));
    },
  );

  it.each(examples)("%s renders objects that Kubernetes accepts", (file) => {
    for (const manifest of rendered(file)) validateManifest(manifest);
  });

  it.each(examples)(
    "%s renders a valid routes file, and pods that run as nobody with a read-only file system",
    async (file) => {
      const folder = await mkdtemp(join(tmpdir(), "chart-"));
      const all = rendered(file);
      const map = all.find(({ kind }) => kind === "ConfigMap");
      const text: string = Object(map?.data)["routes.yaml"];
      writeFileSync(join(folder, "routes.yaml"), text, { mode: 0o644 });
      const deployment = JSON.stringify(all.find(({ kind }) => kind === "Deployment"));
      const env: Record<string, string> = {};
      for (const [, name] of text.matchAll(/\$\{(\w+)\}/g)) {
        env[name ?? ""] = "a value of the secret that is long enough";
        expect(deployment).toContain(`"name":"${name}","valueFrom":{"secretKeyRef"`);
      }
      for (const key of Object.keys(env))
        if (key === "ADMIN_TOKEN" || key === "ENVOY_SECRET") env[key] = "x".repeat(40);
      expect(
        loadConfig(join(folder, "routes.yaml"), env, { listeners: {} }).problems.map(formatProblem),
      ).toEqual([]);
      const pod = Object(parse(deployment)).spec.template.spec;
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true });
      for (const container of pod.containers)
        expect(container.securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
        });
      await rm(folder, { recursive: true });
    },
  );

  it("this test's validation rejects what Kubernetes rejects", () => {
    const [deployment] = rendered("deployment.yaml").filter(({ kind }) => kind === "Deployment");
    if (deployment === undefined) throw new Error("no Deployment");
    expect(() => validateManifest({ ...deployment, spec: { replicas: "two" } })).toThrow();
  });
});

describe("access to the ports", () => {
  it.each(examples)(
    "%s: a NetworkPolicy names pods for every port, and leaves none open to the cluster",
    (file) => {
      const policy = rendered(file).find(({ kind }) => kind === "NetworkPolicy");
      const rules: { ports: { port: string }[]; from?: object[] }[] = Object(policy?.spec).ingress;
      expect(rules.length).toBeGreaterThan(0);
      for (const { ports, from = [] } of rules) {
        // Envoy's own port is public.
        if (ports.every(({ port }) => port === "https")) continue;
        expect(from.length).toBeGreaterThan(0);
        for (const peer of from)
          expect(Object.keys(peer).sort()).toEqual(["namespaceSelector", "podSelector"]);
      }
      expect(rules.flatMap(({ ports }) => ports).some(({ port }) => port === "private")).toBe(
        file === "production.yaml",
      );
    },
  );

  it.each(["envoy-gateway.yaml", "istio.yaml"])("%s: Envoy authenticates to both ports", (file) => {
    const text = readFileSync(join(kubernetes, file), "utf8");
    expect(text).toMatch(
      /name: envoy_secret\n\s+type: ValueRef|initial_metadata: \[\{ key: x-mcp-auth-secret/,
    );
    expect(text).toMatch(/header: x-mcp-auth-secret\n\s+overwrite: true|set: \{ x-mcp-auth-secret/);
    expect(text).toMatch(/remove: (x-mcp-auth-secret|\[x-forwarded-host, x-mcp-auth-secret\])/);
  });
});

/** The check context of a route in each sample. */
const contextsOf: Record<string, (all: readonly Manifest[]) => unknown[]> = {
  "envoy-gateway.yaml": (all) =>
    all
      .map((manifest) => Object(manifest.spec).extAuth?.contextExtensions)
      .filter((list) => list !== undefined)
      .map((list: { name: string; value?: string }[]) =>
        // Without the secret.
        Object.fromEntries(list.filter(({ value }) => value).map(({ name, value }) => [name, value])),
      ),
  "istio.yaml": (all) =>
    all
      .flatMap((manifest): unknown[] => Object(manifest.spec).configPatches ?? [])
      .map(
        (one) =>
          Object(one).patch.value.typed_per_filter_config?.["envoy.filters.http.ext_authz"]?.check_settings
            ?.context_extensions,
      )
      .filter((context) => context !== undefined),
};

describe("examples for Envoy Gateway and Istio", () => {
  it("have the context that `envoy-config --format context` prints: another hash would always be 503", async () => {
    const folder = await mkdtemp(join(tmpdir(), "context-"));
    const file = join(folder, "routes.yaml");
    const routes = `issuer: https://mcp.example.com
listen: {envoy_secret: an-envoy-secret-that-is-long-enough-1}
sign_in: {providers: [{issuer: https://id.example.com, client_id: c}]}
envoy: {tls: {terminated_by: 127.0.0.1}}
routes:
  - id: notes
    from: https://notes.example.com
    to: https://notes.vendor.example/mcp
    mcp: {server: {}}
    policy: [{allow: {and: [{mcp_tool: {starts_with: read_}}]}}]
  - {id: open, from: https://open.example.com, to: https://open.vendor.example/mcp, mcp: {server: {}}, policy: [{allow: {and: [{accept: true}]}}]}
`;
    writeFileSync(file, routes, { mode: 0o600 });
    const cli = join(import.meta.dirname, "../../src/main.ts");
    const line = [cli, "envoy-config", "--config", file, "--format", "context"];
    const { stdout } = await promisify(execFile)(process.execPath, line);
    await rm(folder, { recursive: true });
    const { notes, open } = parse(stdout);
    expect(notes).toEqual({
      route: "notes",
      upstream: expect.stringMatching(/^[0-9a-f]{16}$/),
      body: "inspected",
    });
    expect(open).toEqual({ route: "open", upstream: expect.stringMatching(/^[0-9a-f]{16}$/) });
    expect(open.upstream).not.toBe(notes.upstream);
    for (const [sample, contexts] of Object.entries(contextsOf)) {
      const found = contexts(manifests(join(kubernetes, sample)));
      expect(found.length, sample).toBeGreaterThan(0);
      for (const context of found) expect(context, sample).toEqual(notes);
    }
  });

  it.each(["envoy-gateway.yaml", "istio.yaml"])("%s matches the schemas of its kinds", (file) => {
    const all = manifests(join(kubernetes, file));
    expect(all.length).toBeGreaterThan(3);
    for (const manifest of all) validateManifest(manifest);
  });

  it("unknown fields and wrong types are found at any depth", () => {
    const [policy] = manifests(join(kubernetes, "envoy-gateway.yaml")).filter(
      ({ kind }) => kind === "SecurityPolicy",
    );
    if (policy === undefined) throw new Error("no SecurityPolicy");
    const spec = Object(policy.spec);
    const changed = (extAuth: object) => ({
      ...policy,
      spec: { ...spec, extAuth: { ...spec.extAuth, ...extAuth } },
    });
    expect(() => validateManifest({ ...policy, specs: {} })).toThrow("specs");
    expect(() => validateManifest(changed({ failopen: false }))).toThrow("failopen");
    expect(() => validateManifest(changed({ grpc: { backendRefs: [{ name: "a", prot: 1 }] } }))).toThrow(
      "prot",
    );
    expect(() => validateManifest(changed({ statusOnError: "503" }))).toThrow("statusOnError");
    const metadata = { ...policy.metadata, label: {} };
    expect(() => validateManifest({ ...policy, metadata })).toThrow("label");
  });

  it.each(["envoy-gateway.yaml", "istio.yaml", "istio-mesh-config.yaml"])("%s fails closed", (file) => {
    const text = readFileSync(join(kubernetes, file), "utf8");
    expect(text).not.toMatch(/failOpen: true|failure_mode_allow: true/);
    expect(text).toMatch(/503|ServiceUnavailable/);
  });

  it.each(["envoy-gateway.yaml", "istio.yaml"])(
    "%s strips headers that only the gateway may set, and rejects encoded slashes",
    (file) => {
      const text = readFileSync(join(kubernetes, file), "utf8");
      expect(text).toMatch(/x-pomerium-/);
      expect(text).toMatch(
        /escapedSlashesAction: RejectRequest|path_with_escaped_slashes_action: REJECT_REQUEST/,
      );
    },
  );
});
