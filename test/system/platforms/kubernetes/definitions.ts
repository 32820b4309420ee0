import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import { goToolVersion } from "../../../../dev/go-tools.ts";
import type { KubernetesClient, KubernetesObject } from "./client.ts";

/** Go modules that contain CustomResourceDefinitions, and where; `test/deploy/schemas` was taken from the same files. */
const modules = {
  "github.com/prometheus-operator/prometheus-operator": {
    version: "v0.85.0",
    files: "example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml",
  },
  "github.com/envoyproxy/gateway": {
    version: goToolVersion("envoy-gateway"),
    files: "charts/gateway-helm/charts/crds/crds/**/*.yaml",
  },
  "istio.io/istio": {
    version: goToolVersion("pilot-discovery"),
    files: "manifests/charts/base/files/crd-all.gen.yaml",
  },
};

/** The folder of each module, downloaded if necessary, with the pattern of its files. */
export async function downloadDefinitions(): Promise<readonly { folder: string; files: string }[]> {
  const folders: { folder: string; files: string }[] = [];
  for (const [module, { version, files }] of Object.entries(modules)) {
    const line = ["mod", "download", "-json", `${module}@${version}`];
    const { stdout } = await promisify(execFile)("go", line, { maxBuffer: 16 * 1024 * 1024 });
    folders.push({ folder: JSON.parse(stdout).Dir, files });
  }
  return folders;
}

/** Installs the CustomResourceDefinitions that the chart and the sample manifests need, and waits until they are served. */
export async function installDefinitions(api: KubernetesClient): Promise<void> {
  const names: string[] = [];
  for (const { folder, files } of await downloadDefinitions()) {
    for (const file of globSync(join(folder, files))) {
      // Charts wrap some definitions in lines of their template language.
      const yaml = (await readFile(file, "utf8")).replace(/^\{\{.*\}\}\n/gm, "");
      for (const document of parseAllDocuments(yaml)) {
        const object: KubernetesObject | null = document.toJS();
        if (object?.kind !== "CustomResourceDefinition") continue;
        await api.apply(object);
        names.push(object.metadata.name);
      }
    }
  }
  const base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  for (const name of names) {
    const established = async () =>
      Object(await api.get(`${base}/${name}`)).status?.conditions?.some(
        (one: { type: string; status: string }) => one.type === "Established" && one.status === "True",
      );
    for (const until = Date.now() + 60_000; !(await established()); await delay(50))
      if (Date.now() > until) throw new Error(`${name} is not served after 60 s`);
  }
}
