import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { stringify } from "yaml";
import { type GoTool, goTool } from "../../../../dev/go-tools.ts";
import type { KubernetesObject } from "../../../deploy/manifests.ts";
import { type KubernetesApiServer, missingForKubernetes } from "./api-server.ts";

const root = join(import.meta.dirname, "../../../..");
export const chart = join(root, "deploy/helm/envoy-mcp-auth");
/** The chart as of November 21, 2026. */
export const earlierChart = join(root, "test/deploy/earlier-chart");

/**
 * What is missing to install the chart in a cluster, with what installs it; `undefined` if nothing is.
 * @param more programs that the caller needs, too
 */
export async function missingForHelm(...more: readonly GoTool[]): Promise<string | undefined> {
  for (const tool of ["helm", "kube-controller-manager", ...more] as const)
    if ((await goTool(tool)) === undefined) return `${tool} (needs Go: node dev/go-tools.ts ${tool})`;
  return missingForKubernetes();
}

/** Releases in one namespace of a cluster. */
export interface Helm {
  /**
   * Runs a command of Helm. @param values for `--values -` in the arguments @returns its output
   * @throws Error with what Helm printed
   */
  run(args: readonly string[], values?: object): Promise<string>;
  /** The objects of a kind in the namespace: `apps/v1/deployments`. */
  list(resource: string): Promise<KubernetesObject[]>;
  /** Creates or changes a Secret. */
  secret(name: string, data: Readonly<Record<string, string>>): Promise<void>;
}

/** Helm in a new namespace that enforces the Pod Security Standard `restricted`. */
export async function helmIn(api: KubernetesApiServer, namespace: string): Promise<Helm> {
  const helm = (await goTool("helm")) ?? "helm";
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels } });
  const env = { ...process.env, KUBECONFIG: api.kubeconfig, HELM_CACHE_HOME: join(api.folder, "helm") };
  return {
    async run(args, values) {
      const running = promisify(execFile)(helm, [...args, "--namespace", namespace], { env });
      running.child.stdin?.end(values === undefined ? "" : stringify(values));
      return running.then(
        ({ stdout }) => stdout,
        (error: { stdout?: string; stderr?: string }) => {
          throw new Error(`helm ${args.join(" ")}:\n${error.stdout}\n${error.stderr}`);
        },
      );
    },
    async list(resource) {
      const parts = resource.split("/");
      const path = `${parts.length > 2 ? "/apis/" : "/api/"}${parts.slice(0, -1).join("/")}`;
      const { items } = await api.get<{ items: KubernetesObject[] }>(
        `${path}/namespaces/${namespace}/${parts.at(-1)}`,
      );
      return items;
    },
    async secret(name, data) {
      await api.apply({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, stringData: data });
    },
  };
}
