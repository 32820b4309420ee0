import { VirtualService } from "@kubernetes-models/istio/networking.istio.io/v1";
import { EnvoyFilter } from "@kubernetes-models/istio/networking.istio.io/v1alpha3";
import { AuthorizationPolicy } from "@kubernetes-models/istio/security.istio.io/v1";
import { vendoredErrors } from "./vendored-schemas.ts";

/** A Kubernetes object as read from YAML. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [key: string]: unknown;
}

/** Kinds that `schemas/` does not have; their unknown fields are not found. */
const models = [VirtualService, EnvoyFilter, AuthorizationPolicy];

/**
 * Checks an object against its published schema. @throws Error that names what does not match, or that the kind is unknown here.
 */
export function validateManifest(manifest: Manifest): void {
  const { apiVersion, kind, metadata } = manifest;
  const errors = vendoredErrors(manifest);
  if (errors?.length === 0) return;
  if (errors !== undefined) {
    const lines = errors.map(
      ({ instancePath, message, params }) =>
        `${instancePath || "/"} ${message} ${params.additionalProperty ?? ""}`,
    );
    throw new Error(`${kind} ${metadata?.name}: ${lines.join("; ")}`);
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
