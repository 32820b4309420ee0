import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { runProgram } from "../../../../dev/demo/sidecar.ts";
import type { GatewaySettings } from "../../../../dev/demo/stack.ts";
import { type KubernetesObject, manifestsIn } from "../../../deploy/manifests.ts";

const root = join(import.meta.dirname, "../../../..");
const deploy = join(root, "deploy/kubernetes");

/** The sample, as `envsubst '$ENVOY_SECRET'` prints it. */
export function istioSample(envoySecret: string): KubernetesObject[] {
  const text = readFileSync(join(deploy, "istio.yaml"), "utf8").replace(
    /\$\{ENVOY_SECRET\}/g,
    () => envoySecret,
  );
  return manifestsIn(text);
}

/** What docs/istio.md has operators add for an aggregated route: to its VirtualService, and to the sidecar's DestinationRule. */
function additionsFor(envoySecret: string): { readonly route: object; readonly trafficPolicy: object } {
  const page = readFileSync(join(root, "docs/istio.md"), "utf8").replace(
    /\$\{ENVOY_SECRET\}/g,
    () => envoySecret,
  );
  const section = /^## Aggregated routes\n(.*?)^## /ms.exec(page)?.[1] ?? "";
  const [route, , trafficPolicy] = [...section.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text]) =>
    parse(text ?? ""),
  );
  return { route: route[0], trafficPolicy };
}

/**
 * The sample for the routes of a stack: its route is repeated for each of them, under their hosts, upstreams and contexts. Nothing else
 * changes but the Gateway's port and the addresses of the upstreams, which DNS does not know.
 * @param endpoints ports on 127.0.0.1 by the host names of upstreams
 */
export async function istioManifests(
  settings: Pick<GatewaySettings, "config" | "configFile" | "envoySecret" | "port">,
  endpoints: Readonly<Record<string, number>> = {},
): Promise<KubernetesObject[]> {
  const line = ["envoy-config", "--config", settings.configFile, "--format", "context"];
  const contexts: Record<string, Record<string, string>> = parse(await runProgram(undefined, line));
  const routes = settings.config.routes.map(({ id, from, to }) => ({
    id: String(id),
    host: new URL(String(from)).hostname,
    to: to === undefined ? undefined : new URL(String(to)),
    context: contexts[String(id)] ?? {},
  }));
  const issuer = new URL(String(settings.config.issuer)).hostname;
  const additions = additionsFor(settings.envoySecret);
  return istioSample(settings.envoySecret).flatMap((object) =>
    forRoutes(object, { issuer, routes, port: settings.port, endpoints, additions }),
  );
}

interface StackRoute {
  readonly id: string;
  readonly host: string;
  /** Undefined for an aggregated route. */
  readonly to: URL | undefined;
  readonly context: Readonly<Record<string, string>>;
}

function forRoutes(
  object: KubernetesObject,
  stack: {
    readonly issuer: string;
    readonly routes: readonly StackRoute[];
    readonly port: number;
    readonly endpoints: Readonly<Record<string, number>>;
    readonly additions: ReturnType<typeof additionsFor>;
  },
): KubernetesObject[] {
  const { issuer, routes, additions } = stack;
  const withServer = routes.flatMap(({ to, ...route }) => (to === undefined ? [] : [{ ...route, to }]));
  const spec = Object(object.spec);
  const hosts = routes.map(({ host }) => host);
  const named = `${object.kind}/${object.metadata.name}`;
  switch (named) {
    case "Gateway/mcp": {
      const [server] = spec.servers;
      const port = { ...server.port, number: stack.port };
      return [{ ...object, spec: { ...spec, servers: [{ ...server, port, bind: "127.0.0.1" }] } }];
    }
    case "AuthorizationPolicy/mcp": {
      const renamed = (patterns: readonly string[]) =>
        patterns.flatMap((pattern) =>
          pattern.startsWith("notes.example.com")
            ? hosts.map((host) => pattern.replace("notes.example.com", host))
            : pattern.replace("mcp.example.com", issuer),
        );
      const text = JSON.stringify(object, (name, value) =>
        name === "hosts" || name === "notHosts" ? renamed(value) : value,
      );
      return [JSON.parse(text)];
    }
    case "VirtualService/mcp-issuer":
      return [{ ...object, spec: { ...spec, hosts: [issuer] } }];
    case "VirtualService/notes":
      return [
        ...withServer.map((route) => forRoute(object, route)),
        ...routes
          .filter(({ to }) => to === undefined)
          .map(({ id, host }) => {
            const http = [spec.http[0], { ...additions.route, name: id }];
            return {
              ...object,
              metadata: { ...object.metadata, name: id },
              spec: { ...spec, hosts: [host], http },
            };
          }),
      ];
    case "DestinationRule/gateway-envoy-mcp-auth":
      return [
        {
          ...object,
          spec: { ...spec, trafficPolicy: { ...spec.trafficPolicy, ...additions.trafficPolicy } },
        },
      ];
    case "DestinationRule/notes":
      return withServer.filter(({ to }) => to.protocol === "https:").map((route) => forRoute(object, route));
    case "ServiceEntry/notes":
      return withServer.map((route) => {
        const made = forRoute(object, route);
        const [port] = Object(made.spec).ports;
        const name = route.to.protocol === "https:" ? "https" : "http";
        const ports = [{ ...port, name, protocol: name.toUpperCase() }];
        const at = stack.endpoints[route.to.hostname] ?? Number(route.to.port);
        const endpoints = [{ address: "127.0.0.1", ports: { [name]: at } }];
        return { ...made, spec: { ...Object(made.spec), ports, resolution: "STATIC", endpoints } };
      });
    case "EnvoyFilter/mcp-route-context":
      return [
        {
          ...object,
          spec: {
            ...spec,
            configPatches: routes.flatMap(({ id, to, context }) =>
              spec.configPatches.slice(0, to === undefined ? 1 : undefined).map((patch: object) => {
                const made = JSON.parse(JSON.stringify(patch).replaceAll('"name":"notes', `"name":"${id}`));
                const [perRoute] = Object.values<{ check_settings: object }>(
                  made.patch.value.typed_per_filter_config,
                );
                if (perRoute) perRoute.check_settings = { context_extensions: context };
                return made;
              }),
            ),
          },
        },
      ];
    default:
      return [object];
  }
}

/** The object with the route's names in place of the sample's. */
function forRoute(
  object: KubernetesObject,
  { id, host, to }: Pick<StackRoute, "id" | "host"> & { readonly to: URL },
): KubernetesObject {
  // A destination is a service of Istio's registry, so it has a name.
  const upstream = to.hostname === "127.0.0.1" ? `${id}.upstream.internal` : to.hostname;
  const port = Number(to.port) || (to.protocol === "https:" ? 443 : 80);
  const text = JSON.stringify(object)
    .replaceAll("notes.example.com", host)
    .replaceAll('"authority":"notes.vendor.example"', `"authority":"${to.host}"`)
    .replaceAll("notes.vendor.example", upstream)
    .replaceAll('"number":443', `"number":${port}`)
    .replaceAll('"name":"notes', `"name":"${id}`)
    .replaceAll('"/mcp', `"${to.pathname}`);
  return JSON.parse(text);
}

/** The chart's Service, whose only pod is a process on this machine, and the Secrets and rights that the gateway's pod has. */
export function clusterOf(
  settings: Pick<GatewaySettings, "grpcPort" | "httpPort" | "ca">,
): KubernetesObject[] {
  const service = manifestsIn(readFileSync(join(deploy, "rendered/deployment.yaml"), "utf8")).find(
    ({ kind, metadata }) => kind === "Service" && metadata.name === "gateway-envoy-mcp-auth",
  );
  if (service === undefined) throw new Error("deploy/kubernetes/rendered/deployment.yaml has no Service");
  const { certificate, key } = settings.ca.files;
  const base64 = (file: string) => readFileSync(file).toString("base64");
  const gateway = { name: "istio-ingressgateway", namespace: "istio-system" };
  const group = "rbac.authorization.k8s.io";
  return [
    { ...service, metadata: { ...service.metadata, namespace: "mcp" } },
    {
      apiVersion: "networking.istio.io/v1",
      kind: "WorkloadEntry",
      metadata: { name: "sidecar", namespace: "mcp" },
      spec: {
        address: "127.0.0.1",
        labels: Object(service.spec).selector,
        ports: { grpc: settings.grpcPort, http: settings.httpPort },
      },
    },
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "mcp-tls", namespace: "istio-system" },
      type: "kubernetes.io/tls",
      data: { "tls.crt": base64(certificate), "tls.key": base64(key) },
    },
    // As in Istio's chart of a gateway.
    {
      apiVersion: `${group}/v1`,
      kind: "Role",
      metadata: gateway,
      rules: [{ apiGroups: [""], resources: ["secrets"], verbs: ["get", "watch", "list"] }],
    },
    {
      apiVersion: `${group}/v1`,
      kind: "RoleBinding",
      metadata: gateway,
      roleRef: { apiGroup: group, kind: "Role", name: gateway.name },
      subjects: [{ kind: "ServiceAccount", ...gateway }],
    },
  ];
}
