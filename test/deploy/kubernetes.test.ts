import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { programFile } from "../../dev/demo/sidecar.ts";
import { unmatched } from "../../src/model/route.ts";
import { type KubernetesObject, manifestsIn } from "./manifests.ts";
import { validateManifest } from "./validate-manifest.ts";

const kubernetes = join(import.meta.dirname, "../../deploy/kubernetes");
const manifests = (file: string) => manifestsIn(readFileSync(file, "utf8"));

describe("access to the ports", () => {
  it.each(["envoy-gateway.yaml", "istio.yaml"])("%s: Envoy authenticates to both ports", (file) => {
    const text = readFileSync(join(kubernetes, file), "utf8");
    expect(text).toMatch(
      /name: envoy_secret\n\s+type: ValueRef|initial_metadata: \[\{ key: x-mcp-auth-secret/,
    );
    expect(text).toMatch(/header: x-mcp-auth-secret\n\s+overwrite: true|set: \{ x-mcp-auth-secret/);
    expect(text).toMatch(/remove: (x-mcp-auth-secret|\[x-forwarded-host, x-mcp-auth-secret\])/);
  });
});

it("Envoy Gateway: what no other HTTPRoute serves is checked under a name that no route can have", () => {
  const policy = manifests(join(kubernetes, "envoy-gateway.yaml")).find(
    ({ kind, metadata }) => kind === "SecurityPolicy" && metadata.name === "mcp-unknown",
  );
  const contextExtensions = [{ name: "route", type: "Value", value: unmatched }, { name: "envoy_secret" }];
  expect(policy?.spec).toMatchObject({ extAuth: { failOpen: false, contextExtensions } });
});

/** The check context of a route in each sample. */
const contextsOf: Record<string, (all: readonly KubernetesObject[]) => unknown[]> = {
  "envoy-gateway.yaml": (all) =>
    all
      .map((manifest) => Object(manifest.spec).extAuth?.contextExtensions)
      .filter((list) => list !== undefined && !JSON.stringify(list).includes(`"${unmatched}"`))
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

it("the objects for an aggregated route in docs/envoy-gateway.md match the schemas of Envoy Gateway", () => {
  const page = readFileSync(join(kubernetes, "../../docs/envoy-gateway.md"), "utf8");
  const [, text = ""] = /^## Aggregated routes\n.*?^```yaml\n(.*?)^```$/ms.exec(page) ?? [];
  const objects = manifestsIn(text);
  expect(objects.map(({ kind }) => kind)).toEqual(["HTTPRoute", "BackendTrafficPolicy"]);
  for (const one of objects) validateManifest(one);
});

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
    const line = [programFile, "envoy-config", "--config", file, "--format", "context"];
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
