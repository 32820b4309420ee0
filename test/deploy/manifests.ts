import { parseAllDocuments } from "yaml";

/** An object of the Kubernetes API, from a manifest or from a server. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: unknown;
  readonly status?: unknown;
  readonly [key: string]: unknown;
}

/** The objects of a YAML text, without its empty documents. */
export function manifestsIn(yaml: string): KubernetesObject[] {
  return parseAllDocuments(yaml)
    .map((document): KubernetesObject | null => document.toJS())
    .filter((object) => object !== null);
}
