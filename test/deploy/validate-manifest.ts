import type { KubernetesObject } from "./manifests.ts";
import { vendoredErrors } from "./vendored-schemas.ts";

/**
 * Checks an object against its published schema; a field that the schema does not have is an error.
 * @throws Error that names what does not match, or that `schemas/` does not have the kind
 */
export function validateManifest(manifest: KubernetesObject): void {
  const { apiVersion, kind, metadata } = manifest;
  const errors = vendoredErrors(manifest);
  if (errors === undefined) throw new Error(`no schema for ${apiVersion} ${kind}`);
  if (errors.length === 0) return;
  const lines = errors.map(
    ({ instancePath, message, params }) =>
      `${instancePath || "/"} ${message} ${params.additionalProperty ?? ""}`,
  );
  throw new Error(`${kind} ${metadata?.name}: ${lines.join("; ")}`);
}
