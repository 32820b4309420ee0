import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Supervised, supervise } from "../../../../dev/demo/supervise.ts";

/** What an image contains, here: programs of this machine and folders of this repository. */
export interface Image {
  readonly entrypoint: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Read-only files and folders: path in the container, path here. */
  readonly files: Readonly<Record<string, string>>;
}

/** As far as this runtime knows it. */
export interface ContainerSpec {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly securityContext?: {
    readonly readOnlyRootFilesystem?: boolean;
    readonly runAsUser?: number;
    readonly runAsGroup?: number;
    readonly allowPrivilegeEscalation?: boolean;
    readonly capabilities?: { readonly drop?: readonly string[] };
  };
  readonly volumeMounts?: readonly { name: string; mountPath: string; readOnly?: boolean }[];
  readonly lifecycle?: { readonly preStop?: { readonly exec?: { readonly command: readonly string[] } } };
  readonly readinessProbe?: {
    readonly httpGet?: { path: string; port: string | number };
    readonly tcpSocket?: { port: string | number };
  };
  readonly ports?: readonly { name: string; containerPort: number }[];
}

interface RunOptions {
  readonly image: Image;
  readonly env: Readonly<Record<string, string>>;
  /** Of the pod: user, groups. */
  readonly securityContext: { runAsUser?: number; runAsGroup?: number; fsGroup?: number };
  /** Folders of the volumes by name. */
  readonly volumes: Readonly<Record<string, string>>;
  /** Content of `/etc/hosts`. */
  readonly hosts: string;
  /** For this container alone; its root is mounted in it. */
  readonly folder: string;
  readonly logFile: string;
}

/*
 * In its own mount namespace: a root of the machine's programs and the image's files, the volumes at their paths, everything else empty
 * and, as specified, read-only. `exec` throughout, so that signals reach the program. The network is that of the machine.
 */
const script = `
set -e
root=$ROOT
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
for name in bin sbin lib lib64 usr; do
  if [ -L "/$name" ]; then cp -d "/$name" "$root/$name"
  elif [ -d "/$name" ]; then mkdir "$root/$name"; mount --rbind -o ro "/$name" "$root/$name"; fi
done
mkdir "$root/proc" "$root/dev" "$root/dev/shm" "$root/etc" "$root/etc/ssl"
mount --rbind /proc "$root/proc"
for name in null zero random urandom; do : >"$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind -o ro /etc/ssl "$root/etc/ssl"
cp "$HOSTS" "$root/etc/hosts"
echo "nobody:x:65534:65534::/:/bin/false" >"$root/etc/passwd"
while IFS="$(printf '\\t')" read -r from to mode; do
  if [ -d "$from" ]; then mkdir -p "$root$to"; else mkdir -p "$(dirname "$root$to")"; : >"$root$to"; fi
  mount --bind "$from" "$root$to"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro "$root$to"; fi
done <"$MOUNTS"
if [ "$READ_ONLY" = true ]; then mount -o remount,ro "$root"; fi
path=$IMAGE_PATH
unset ROOT HOSTS MOUNTS READ_ONLY IMAGE_PATH
exec chroot "$root" /usr/bin/env "PATH=$path" "$@"`;

/** Starts a container of a pod. It ends with this process. */
export function runContainer(container: ContainerSpec, options: RunOptions): Supervised {
  const { image, folder, volumes, securityContext: pod } = options;
  const own = container.securityContext ?? {};
  const root = join(folder, "root");
  mkdirSync(root, { recursive: true });
  const mounts = [
    ...Object.entries(image.files).map(([to, from]) => [from, to, "ro"]),
    ...(container.volumeMounts ?? []).map(({ name, mountPath, readOnly }) => {
      const from = volumes[name];
      if (from === undefined) throw new Error(`${container.name} mounts ${name}, which is not a volume`);
      return [from, mountPath, readOnly ? "ro" : "rw"];
    }),
  ];
  writeFileSync(join(folder, "mounts"), mounts.map((mount) => `${mount.join("\t")}\n`).join(""));
  writeFileSync(join(folder, "hosts"), options.hosts);
  const identity = [
    `--reuid=${own.runAsUser ?? pod.runAsUser ?? 0}`,
    `--regid=${own.runAsGroup ?? pod.runAsGroup ?? 0}`,
    pod.fsGroup === undefined ? "--clear-groups" : `--groups=${pod.fsGroup}`,
    ...(own.allowPrivilegeEscalation === false ? ["--no-new-privs"] : []),
    ...(own.capabilities?.drop?.includes("ALL") ? ["--bounding-set=-all", "--inh-caps=-all"] : []),
  ];
  const command = [...(container.command ?? image.entrypoint), ...(container.args ?? [])];
  return supervise(
    "unshare",
    ["--mount", "sh", "-c", script, "sh", "/usr/bin/setpriv", ...identity, "--", ...command],
    {
      logFile: options.logFile,
      cwd: "/",
      env: {
        HOME: "/",
        ...image.env,
        ...options.env,
        // Of the script; the image may have another one.
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        IMAGE_PATH: options.env.PATH ?? image.env?.PATH ?? "/image/bin:/usr/bin:/bin",
        ...{ ROOT: root, HOSTS: join(folder, "hosts"), MOUNTS: join(folder, "mounts") },
        READ_ONLY: String(own.readOnlyRootFilesystem ?? false),
      },
    },
  );
}
