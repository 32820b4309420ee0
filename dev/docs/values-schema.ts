import { type JsonSchema, jsonSchemaOf } from "../../src/admin/route-settings.ts";
import { configSchema } from "../../src/config/config-schema.ts";
import { createFields } from "../../src/config/field-types.ts";
import { routeSchema } from "../../src/config/route-schema.ts";

const text = { type: "string" };
const count = { type: "integer", minimum: 1 };
const flag = { type: "boolean" };
const open = { type: "object" };
const name = { type: "string", minLength: 1 };
const peers = { type: "array", items: open };
const strict = (properties: object, required: readonly string[] = []) => ({
  type: "object",
  additionalProperties: false,
  properties,
  ...(required.length > 0 ? { required } : {}),
});
const reference = strict({ secret: name, key: name }, ["secret", "key"]);
const pullPolicy = { enum: ["Always", "IfNotPresent", "Never"] };

/** JSON Schema of the chart's values; the routes file in it uses the program's own schema. */
export function valuesSchema(): object {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Values of the chart envoy-mcp-auth",
    ...strict({
      global: open,
      mode: { enum: ["deployment", "sidecar"] },
      replicas: count,
      image: strict({ repository: name, tag: text, pullPolicy }),
      imagePullSecrets: { type: "array", items: strict({ name }, ["name"]) },
      config: routesFile(),
      existingConfigMap: text,
      database: reference,
      encryptionKey: reference,
      envoySecret: reference,
      env: {
        type: "array",
        items: strict(
          { name: { type: "string", pattern: "^[A-Za-z_][A-Za-z0-9_]*$" }, secret: name, key: name },
          ["name", "secret", "key"],
        ),
      },
      otlpEndpoint: { type: "string", pattern: "^(https?://.+)?$" },
      resources: open,
      terminationGracePeriodSeconds: { type: "integer", minimum: 15 },
      nodeSelector: open,
      tolerations: { type: "array", items: open },
      affinity: open,
      podAnnotations: open,
      serviceAccount: strict({ annotations: open }),
      podDisruptionBudget: strict({
        enabled: flag,
        minAvailable: { anyOf: [count, { type: "string", pattern: "^\\d+%$" }] },
      }),
      autoscaling: strict({
        enabled: flag,
        minReplicas: count,
        maxReplicas: count,
        targetCPUUtilizationPercentage: { type: "integer", minimum: 1, maximum: 100 },
      }),
      networkPolicy: strict({ enabled: flag, envoy: peers, private: peers }),
      serviceMonitor: strict({ enabled: flag, interval: { type: "string", pattern: "^\\d+(s|m)$" } }),
      prometheusRule: strict({ enabled: flag }),
      envoy: strict({
        image: strict({ repository: name, tag: name, pullPolicy }),
        tlsSecret: name,
        resources: open,
        service: strict({ type: { enum: ["ClusterIP", "NodePort", "LoadBalancer"] }, annotations: open }),
      }),
    }),
  };
}

/** Allows unknown keys, because `check-config` also accepts Pomerium's, and reports the rest. */
function routesFile(): object {
  const context = { folder: "/", env: {}, worldReadable: false, referencedFiles: new Set<string>() };
  const fields = createFields(context);
  const { required: _ofTheFile, additionalProperties: _strict, ...top } = jsonSchemaOf(configSchema(fields));
  const { additionalProperties: _closed, ...route } = jsonSchemaOf(routeSchema(fields));
  const properties: JsonSchema = Object(top.properties);
  return { ...top, properties: { ...properties, routes: { type: "array", items: route }, policy: {} } };
}
