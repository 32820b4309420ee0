import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Gateway, HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { VirtualService } from "@kubernetes-models/istio/networking.istio.io/v1";
import { EnvoyFilter } from "@kubernetes-models/istio/networking.istio.io/v1alpha3";
import { AuthorizationPolicy } from "@kubernetes-models/istio/security.istio.io/v1";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Deployment } from "kubernetes-models/apps/v1";
import { HorizontalPodAutoscaler } from "kubernetes-models/autoscaling/v2";
import { NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1";
import { ConfigMap, Service, ServiceAccount } from "kubernetes-models/v1";

/** A Kubernetes object as read from YAML. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [key: string]: unknown;
}

const models = [
  Deployment,
  HorizontalPodAutoscaler,
  NetworkPolicy,
  PodDisruptionBudget,
  ConfigMap,
  Service,
  ServiceAccount,
  Gateway,
  HTTPRoute,
  VirtualService,
  EnvoyFilter,
  AuthorizationPolicy,
];
const envoyGateway = ["SecurityPolicy", "EnvoyExtensionPolicy", "ClientTrafficPolicy"];
/** Their schemas are not kept here: a few lines each, looked at by eye. */
const unchecked = [
  "monitoring.coreos.com/v1/ServiceMonitor",
  "monitoring.coreos.com/v1/PrometheusRule",
].concat("gateway.envoyproxy.io/v1alpha1/Backend");

/**
 * Checks an object against the schema its makers publish.
 * @throws Error that says what does not fit, or that the kind is unknown here.
 */
export function validateManifest(manifest: Manifest): void {
  const { apiVersion, kind } = manifest;
  if (unchecked.includes(`${apiVersion}/${kind}`)) return;
  if (apiVersion === "gateway.envoyproxy.io/v1alpha1" && envoyGateway.includes(kind)) {
    const schema = JSON.parse(readFileSync(join(import.meta.dirname, `schemas/${kind}.json`), "utf8"));
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    if (!ajv.validate(schema, manifest.spec)) throw new Error(`${kind}: ${ajv.errorsText()}`);
    return;
  }
  for (const Model of models) {
    if (Model.kind !== kind || Model.apiVersion !== apiVersion) continue;
    const made = new Model();
    Object.assign(made, manifest);
    made.validate();
    return;
  }
  throw new Error(`no schema for ${apiVersion} ${kind}`);
}
