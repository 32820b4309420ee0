import {
  Backend,
  ClientTrafficPolicy,
  EnvoyExtensionPolicy,
  HTTPRouteFilter,
  SecurityPolicy,
} from "@kubernetes-models/envoy-gateway/gateway.envoyproxy.io/v1alpha1";
import { Gateway, HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { VirtualService } from "@kubernetes-models/istio/networking.istio.io/v1";
import { EnvoyFilter } from "@kubernetes-models/istio/networking.istio.io/v1alpha3";
import { AuthorizationPolicy } from "@kubernetes-models/istio/security.istio.io/v1";
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
  Backend,
  ClientTrafficPolicy,
  EnvoyExtensionPolicy,
  HTTPRouteFilter,
  SecurityPolicy,
];
/** No package contains their schemas: a few lines each, reviewed manually. */
const unchecked = ["monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule"];

/**
 * Checks an object against its published schema. @throws Error that names what does not match, or that the kind is unknown here.
 */
export function validateManifest(manifest: Manifest): void {
  const { apiVersion, kind } = manifest;
  if (unchecked.includes(`${apiVersion}/${kind}`)) return;
  for (const Model of models) {
    if (Model.kind !== kind || Model.apiVersion !== apiVersion) continue;
    const made = new Model();
    Object.assign(made, manifest);
    made.validate();
    return;
  }
  throw new Error(`no schema for ${apiVersion} ${kind}`);
}
