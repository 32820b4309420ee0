import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { KubernetesObject } from "../../../deploy/manifests.ts";
import type { KubernetesClient } from "./client.ts";

/** A volume of a pod, as far as the node knows it. */
export interface Volume {
  readonly name: string;
  readonly emptyDir?: object;
  readonly configMap?: { readonly name: string; readonly items?: readonly Item[] };
  readonly secret?: { readonly secretName: string; readonly items?: readonly Item[] };
}
interface Item {
  readonly key: string;
  readonly path: string;
}

/** The keys of a ConfigMap or Secret as bytes. @throws KubernetesRejection if it does not exist */
export async function dataOf(
  api: Pick<KubernetesClient, "get">,
  namespace: string,
  kind: "configmaps" | "secrets",
  name: string,
): Promise<Record<string, Buffer>> {
  const { data } = await api.get<KubernetesObject>(`/api/v1/namespaces/${namespace}/${kind}/${name}`);
  const encoding = kind === "secrets" ? "base64" : "utf8";
  return Object.fromEntries(
    Object.entries(Object(data)).map(([key, value]) => [key, Buffer.from(String(value), encoding)]),
  );
}

/**
 * Creates or updates a volume in `folder`. The files of ConfigMaps and Secrets are replaced together, by renaming the link `..data`, as
 * the kubelet does.
 */
export async function writeVolume(
  api: Pick<KubernetesClient, "get">,
  namespace: string,
  volume: Volume,
  folder: string,
  fsGroup: number,
): Promise<void> {
  if (!existsSync(folder)) {
    mkdirSync(folder);
    chownSync(folder, 0, fsGroup);
    chmodSync(folder, volume.emptyDir ? 0o2777 : 0o755);
  }
  if (volume.emptyDir) return;
  const [kind, source] = volume.configMap
    ? (["configmaps", { ...volume.configMap }] as const)
    : (["secrets", { ...volume.secret, name: volume.secret?.secretName ?? "" }] as const);
  if (source.name === "") throw new Error(`volume ${volume.name}: a kind that this node does not know`);
  const data = await dataOf(api, namespace, kind, source.name);
  const items = source.items ?? Object.keys(data).map((key) => ({ key, path: key }));
  const content = items.map(({ key, path }) => {
    const bytes = data[key];
    if (bytes === undefined) throw new Error(`${source.name} has no key ${key}`);
    return [path, bytes] as const;
  });
  const hash = createHash("sha256");
  for (const [path, bytes] of content) hash.update(`${path}\0`).update(bytes);
  const version = `..${hash.digest("hex").slice(0, 16)}`;
  const link = join(folder, "..data");
  if (existsSync(link) && readlinkSync(link) === version) return;
  mkdirSync(join(folder, version), { recursive: true });
  for (const [path, bytes] of content) {
    const file = join(folder, version, path);
    writeFileSync(file, bytes, { mode: kind === "secrets" ? 0o640 : 0o644 });
    chownSync(file, 0, fsGroup);
    if (!existsSync(join(folder, path))) symlinkSync(join("..data", path), join(folder, path));
  }
  symlinkSync(version, `${link}_tmp`);
  renameSync(`${link}_tmp`, link);
}
