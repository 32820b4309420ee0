import { type JsonSchema, jsonSchemaOf } from "../../src/admin/route-settings.ts";
import { configSchema } from "../../src/config/config-schema.ts";
import { createFields } from "../../src/config/field-types.ts";
import { readNoFile } from "../../src/config/referenced-files.ts";
import { routeSchema } from "../../src/config/route-schema.ts";

const text = { type: "string" };
const count = { type: "integer", minimum: 1 };
const port = { type: "integer", minimum: 1, maximum: 65_535 };
const flag = { type: "boolean" };
/** As Kubernetes writes it: the API server validates it. */
const open = { type: "object" };
const openList = { type: "array", items: open };
const texts = { type: "object", additionalProperties: text };
const name = { type: "string", minLength: 1 };
const strict = (properties: object, required: readonly string[] = []) => ({
  type: "object",
  additionalProperties: false,
  properties,
  ...(required.length > 0 ? { required } : {}),
});
const reference = strict({ secret: name, key: name }, ["secret", "key"]);
const image = strict({
  registry: text,
  // An empty one is reported by the chart, with what to do.
  repository: text,
  tag: text,
  digest: { type: "string", pattern: "^(sha256:[0-9a-f]{64})?$" },
  pullPolicy: { enum: ["Always", "IfNotPresent", "Never"] },
});
const imagePullSecrets = { type: "array", items: strict({ name }, ["name"]) };
const serviceType = { enum: ["ClusterIP", "NodePort", "LoadBalancer"] };
const optionalName = { type: "string", pattern: "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$" };
const pods = { anyOf: [count, { type: "string", pattern: "^([1-9]\\d*%)?$" }] };
const url = { type: "string", pattern: "^(https?://.+)?$" };

/** JSON Schema of the chart's values; the routes file in it uses the program's own schema. */
export function valuesSchema(): object {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Values of the chart envoy-mcp-auth",
    ...strict({
      global: { ...open, properties: { imageRegistry: text, imagePullSecrets } },
      mode: { enum: ["deployment", "sidecar"] },
      replicaCount: count,
      replicas: { ...count, deprecated: true },
      image,
      imagePullSecrets,
      nameOverride: optionalName,
      fullnameOverride: optionalName,
      commonLabels: texts,
      commonAnnotations: texts,
      config: routesFile(),
      existingConfigMap: text,
      rolloutOnConfigChange: { enum: ["startup", "always", "never"] },
      database: reference,
      encryptionKey: strict({ secret: text, key: text }, ["secret", "key"]),
      envoySecret: reference,
      env: {
        type: "array",
        items: strict(
          { name: { type: "string", pattern: "^[A-Za-z_][A-Za-z0-9_]*$" }, secret: name, key: name },
          ["name", "secret", "key"],
        ),
      },
      extraEnv: openList,
      extraEnvFrom: openList,
      migration: strict({ enabled: flag, resources: open }),
      grpcTls: strict({ secret: text, clientNames: { type: "array", items: name } }),
      proxy: strict({ httpsProxy: url, httpProxy: url, noProxy: text }),
      privateCa: strict({ configMap: text, secret: text, key: name }),
      otlpEndpoint: url,
      serviceAccount: strict({
        create: flag,
        name: optionalName,
        annotations: texts,
        automountToken: flag,
      }),
      ...podSettings(),
      service: strict({ type: serviceType, annotations: texts, ports: strict({ grpc: port, http: port }) }),
      privateService: strict({ annotations: texts, port }),
      podDisruptionBudget: strict({ enabled: flag, maxUnavailable: pods, minAvailable: pods }),
      autoscaling: strict({
        enabled: flag,
        minReplicas: count,
        maxReplicas: count,
        targetCPUUtilizationPercentage: { type: "integer", minimum: 1, maximum: 100 },
        behavior: open,
      }),
      networkPolicy: strict({ enabled: flag, envoy: openList, private: openList }),
      serviceMonitor: strict({
        enabled: flag,
        interval: { type: "string", pattern: "^\\d+(s|m)$" },
        tlsConfig: { type: "object" },
        labels: texts,
        annotations: texts,
        relabelings: openList,
        metricRelabelings: openList,
      }),
      prometheusRule: strict({ enabled: flag, labels: texts }),
      tests: strict({ enabled: flag }),
      envoy: envoySettings(),
    }),
  };
}

function podSettings() {
  return {
    podLabels: texts,
    podAnnotations: texts,
    deploymentAnnotations: texts,
    podSecurityContext: open,
    securityContext: open,
    resources: open,
    strategy: open,
    terminationGracePeriodSeconds: { type: "integer", minimum: 15 },
    lifecycle: open,
    startupProbe: open,
    livenessProbe: open,
    readinessProbe: open,
    priorityClassName: text,
    nodeSelector: open,
    tolerations: openList,
    affinity: open,
    topologySpreadConstraints: openList,
    extraVolumes: openList,
    extraVolumeMounts: openList,
    extraContainers: openList,
    initContainers: openList,
  };
}

function envoySettings() {
  return strict({
    image: { ...image, properties: { ...image.properties, repository: name, tag: name } },
    tlsSecret: name,
    resources: open,
    securityContext: open,
    lifecycle: open,
    extraEnv: openList,
    extraVolumeMounts: openList,
    service: strict({
      type: serviceType,
      name: optionalName,
      annotations: texts,
      port,
      nodePort: { anyOf: [port, { type: "null" }] },
      loadBalancerClass: text,
      loadBalancerSourceRanges: { type: "array", items: name },
      externalTrafficPolicy: { enum: ["", "Cluster", "Local"] },
    }),
  });
}

/** Allows unknown keys, because `check-config` also accepts Pomerium's, and reports the rest. */
function routesFile(): object {
  const fields = createFields({ folder: "/", env: {}, worldReadable: false, readFile: readNoFile });
  const { required: _ofTheFile, additionalProperties: _strict, ...top } = jsonSchemaOf(configSchema(fields));
  const { additionalProperties: _closed, ...route } = jsonSchemaOf(routeSchema(fields));
  const properties: JsonSchema = Object(top.properties);
  return { ...top, properties: { ...properties, routes: { type: "array", items: route }, policy: {} } };
}
