import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { runProgram } from "../../../../dev/demo/sidecar.ts";
import type { GatewaySettings } from "../../../../dev/demo/stack.ts";
import { type KubernetesObject, manifestsIn } from "../../../deploy/manifests.ts";

interface RouteSettings {
  readonly id: string;
  readonly from: URL;
  /** Undefined for an aggregated route. */
  readonly to: URL | undefined;
  readonly context: Readonly<Record<string, string>>;
}

const root = join(import.meta.dirname, "../../../..");
const sample = join(root, "deploy/kubernetes/envoy-gateway.yaml");
const namespace = "mcp";
/** The version that Envoy Gateway 1.9.1 is released with. */
export const envoyVersion = "1.39.1";

/** Without Kubernetes: Envoy is a process on this machine. */
const hostProxy = {
  apiVersion: "gateway.envoyproxy.io/v1alpha1",
  kind: "EnvoyProxy",
  metadata: { name: "host", namespace },
  spec: { provider: { type: "Host", host: { envoyVersion } } },
};
const hostProxyRef = { group: "gateway.envoyproxy.io", kind: "EnvoyProxy", name: "host", namespace };

/**
 * The objects of `deploy/kubernetes/envoy-gateway.yaml` for a stack: hosts, ports, upstreams and the context of each route are replaced, the
 * objects named `notes` are repeated for every route (those of docs/envoy-gateway.md for an aggregated one), and everything else stays.
 * Added: what the sample expects in the cluster.
 */
export async function manifestFor(settings: GatewaySettings): Promise<object[]> {
  const contexts = parse(
    await runProgram(undefined, ["envoy-config", "--config", settings.configFile, "--format", "context"]),
  );
  const routes: RouteSettings[] = settings.config.routes.map(({ id, from, to }) => ({
    id: String(id),
    from: new URL(String(from)),
    to: to === undefined ? undefined : new URL(String(to)),
    context: contexts[String(id)],
  }));
  const all = manifestsIn(readFileSync(sample, "utf8"));
  const ofRoute = ({ metadata }: KubernetesObject) => /^notes(?:-|$)/.test(metadata.name);
  const shared = all.filter((one) => !ofRoute(one)).map((one) => sharedFor(one, settings, routes));
  const repeated = routes.flatMap((route) =>
    (route.to === undefined ? aggregatedHere() : all.filter(ofRoute)).map((one) =>
      manifestOfRoute(one, route),
    ),
  );
  return [
    ...clusterObjects(settings),
    ...[...shared, ...repeated].map((one) =>
      replaced(one, [
        ...sidecarBackends,
        ['"overrides":{"port":8080}', `"overrides":{"port":${settings.httpPort}}`],
      ]),
    ),
  ];
}

/** The objects that docs/envoy-gateway.md has for an aggregated route, and the copies that it has operators make. */
export function aggregatedSample(): KubernetesObject[] {
  const page = readFileSync(join(root, "docs/envoy-gateway.md"), "utf8");
  const [, text = ""] = /^## Aggregated routes\n.*?^```yaml\n(.*?)^```$/ms.exec(page) ?? [];
  const copied = manifestsIn(readFileSync(sample, "utf8")).filter(
    ({ kind, metadata }) =>
      metadata.name === "notes" && ["SecurityPolicy", "EnvoyExtensionPolicy"].includes(kind),
  );
  return [...copied.map((one) => replaced(one, [["notes", "everything"]])), ...manifestsIn(text)];
}

/** Under the names of the sample's route, and without what ends Envoy Gateway outside Kubernetes. */
function aggregatedHere(): KubernetesObject[] {
  return aggregatedSample().map((one) => {
    const { loadBalancer: _affinity, ...spec } = Object(one.spec);
    return replaced({ ...one, spec }, [["everything", "notes"]]);
  });
}

/** Every string or `"port":NUMBER` of an object, replaced as text. */
function replaced<T>(object: T, changes: readonly (readonly [from: string | RegExp, to: string])[]): T {
  let text = JSON.stringify(object);
  for (const [from, to] of changes) text = text.replaceAll(from, to);
  return JSON.parse(text);
}

/** Without Kubernetes, Envoy Gateway has no Services. */
const sidecarBackends = (["http", "grpc"] as const).map((name) => [
  `{"name":"gateway-envoy-mcp-auth","port":${name === "http" ? 8080 : 50051}}`,
  `{"group":"gateway.envoyproxy.io","kind":"Backend","name":"sidecar-${name}"}`,
]) satisfies [string, string][];

function sharedFor(
  one: KubernetesObject,
  { port, config }: GatewaySettings,
  routes: readonly RouteSettings[],
): KubernetesObject {
  if (one.kind === "GatewayClass")
    return { ...one, spec: { ...Object(one.spec), parametersRef: hostProxyRef } };
  const issuer = new URL(String(config.issuer)).hostname;
  const hosts = routes.map(({ from }) => JSON.stringify(from.hostname)).join();
  return replaced(one, [
    ["mcp.example.com", issuer],
    ['"notes.example.com"', hosts],
    ['"port":443', `"port":${port}`],
  ]);
}

function manifestOfRoute(one: KubernetesObject, { id, from, to, context }: RouteSettings): KubernetesObject {
  const made = replaced(one, [
    [/"name":"notes(?=["-])/g, `"name":"${id}`],
    ["notes.example.com", from.hostname],
    ...(to === undefined ? [] : upstreamChanges(to)),
  ]);
  const spec = Object(made.spec);
  if (made.kind === "Backend")
    spec.tls =
      to?.protocol === "https:"
        ? { sni: to.hostname, caCertificateRefs: [{ group: "", kind: "ConfigMap", name: "upstream-ca" }] }
        : undefined;
  if (made.kind === "SecurityPolicy") {
    const extAuth = Object(spec.extAuth);
    const values = Object.entries(context).map(([name, value]) => ({ name, type: "Value", value }));
    const secret = extAuth.contextExtensions.filter(({ name }: { name: string }) => name === "envoy_secret");
    extAuth.contextExtensions = [...values, ...secret];
    if (context.body === undefined) delete extAuth.bodyToExtAuth;
  }
  return made;
}

const upstreamChanges = (to: URL): [from: string | RegExp, to: string][] => [
  // Envoy Gateway accepts names only.
  ["notes.vendor.example", to.hostname === "127.0.0.1" ? "localhost" : to.hostname],
  [/"port":443/g, `"port":${to.port}`],
  [/"(replaceFullPath|value)":"\/mcp"/g, `"$1":"${to.pathname}"`],
  ["/mcp/\\\\1", `${to.pathname}/\\\\1`],
];

/** The namespace, the sidecar in place of the chart's Service, and the secrets that docs/envoy-gateway.md has operators create. */
function clusterObjects({ ca, grpcPort, httpPort, envoySecret }: GatewaySettings): object[] {
  const named = (name: string) => ({ name, namespace });
  const backend = (name: string, { port, ...more }: { port: number; appProtocols?: string[] }) => ({
    apiVersion: "gateway.envoyproxy.io/v1alpha1",
    kind: "Backend",
    metadata: named(name),
    spec: { endpoints: [{ ip: { address: "127.0.0.1", port } }], ...more },
  });
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const read = (file: string) => readFileSync(file).toString("base64");
  return [
    hostProxy,
    { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
    backend("sidecar-grpc", { port: grpcPort, appProtocols: ["gateway.envoyproxy.io/h2c"] }),
    backend("sidecar-http", { port: httpPort }),
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: named("mcp-tls"),
      type: "kubernetes.io/tls",
      data: { "tls.crt": read(ca.files.certificate), "tls.key": read(ca.files.key) },
    },
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: named("envoy-mcp-auth"),
      type: "Opaque",
      data: { credential: base64(envoySecret), "credential-base64": base64(base64(envoySecret)) },
    },
    { apiVersion: "v1", kind: "ConfigMap", metadata: named("upstream-ca"), data: { "ca.crt": ca.ca } },
  ];
}
