import { execFile } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { goToolVersion } from "../../../../dev/go-tools.ts";
import { manifestsIn } from "../../../deploy/manifests.ts";
import type { KubernetesClient } from "./client.ts";

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
type DefiningModule = keyof typeof modules;
const allModules = Object.keys(modules) as DefiningModule[];

/** Downloads the modules that Go does not have yet. @returns the files with their definitions */
export async function downloadDefinitions(names: readonly DefiningModule[] = allModules): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    const { version, files } = modules[name];
    found.push(...globSync(join(await moduleFolder(`${name}@${version}`), files)));
  }
  return found;
}

/** @param module path without capital letters, which Go would escape */
async function moduleFolder(module: string): Promise<string> {
  const { GOMODCACHE, GOPATH = join(homedir(), "go") } = process.env;
  const cached = join(GOMODCACHE ?? join(GOPATH.split(delimiter)[0] ?? "", "pkg/mod"), module);
  if (existsSync(cached)) return cached;
  const line = ["mod", "download", "-json", module];
  const { stdout } = await promisify(execFile)("go", line, { maxBuffer: 16 * 1024 * 1024 });
  return JSON.parse(stdout).Dir;
}

/**
 * Installs CustomResourceDefinitions, and waits until they are served.
 * @param from modules; default: all that the chart and the sample manifests need
 * @throws Error if one is not served within 60 s
 */
export async function installDefinitions(
  api: KubernetesClient,
  from?: readonly DefiningModule[],
): Promise<void> {
  const names: string[] = [];
  for (const file of await downloadDefinitions(from)) {
    // Charts wrap some definitions in lines of their template language.
    const yaml = (await readFile(file, "utf8")).replace(/^\{\{.*\}\}\n/gm, "");
    for (const object of manifestsIn(yaml)) {
      if (object.kind !== "CustomResourceDefinition") continue;
      await api.apply(object);
      names.push(object.metadata.name);
    }
  }
  if (names.length === 0) throw new Error("found no CustomResourceDefinitions");
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
