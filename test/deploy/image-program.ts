import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Program } from "../../dev/demo/sidecar.ts";
import type { BuiltImage } from "./build-image.ts";
import { execForm } from "./dockerfile.ts";

/**
 * As a container engine would: as the image's user, without other groups and without new privileges, with its environment only, a
 * read-only file system, and a read-only volume at the same path as outside. Mounts belong to the process and end with it.
 */
const script = `set -e
root=$1 volume=$2 user=$3; shift 3
mkdir -p "$root$volume"
chown -R "$user" "$volume"
mount --bind "$root" "$root"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$volume" "$root$volume"
mount -o remount,bind,ro "$root$volume"
mount -o remount,bind,ro "$root"
exec /usr/bin/setpriv --no-new-privs /usr/bin/env -i \${DATABASE_URL:+"DATABASE_URL=$DATABASE_URL"} $environment \\
  /usr/sbin/chroot --userspec="$user" --groups="" "$root" "$@"`;

/**
 * Runs the image's entry point, or another command in it.
 * @param volume a folder that is also inside; it will belong to the image's user
 */
export function imageProgram(
  { root, stage, env }: BuiltImage,
  volume: string,
  command = execForm(stage, "ENTRYPOINT"),
): Program {
  const user = stage.instructions.findLast(({ name }) => name === "USER")?.text ?? "0:0";
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return [
    ...(["/usr/bin/env", `environment=${variables.join(" ")}`, "/usr/bin/unshare", "--mount"] as const),
    ...["/bin/sh", "-c", script, "sh", root, volume, user, ...command],
  ];
}

/**
 * Writes a `docker` that knows the commands of docs/installation.md only: `build` has happened, and `run` starts the image's entry point
 * with the user, the writable volume, the working directory and the variables that its options name. Other options fail.
 * @returns the folder, for PATH
 */
export async function fakeDocker(folder: string, { root, stage, env }: BuiltImage): Promise<string> {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const text = `#!/bin/sh
set -e
[ "$1" = build ] && exit 0
[ "$1" = run ] && shift
user=65532:65532 volume=/tmp workdir=/ environment="${variables.join(" ")}"
while :; do
  case $1 in
    --rm) shift ;;
    --network) [ "$2" = host ]; shift 2 ;;
    --user) user=$2; shift 2 ;;
    --volume) volume=\${2%%:*}; shift 2 ;;
    --workdir) workdir=$2; shift 2 ;;
    --env) eval "environment=\\"\\$environment $2=\\$$2\\""; shift 2 ;;
    envoy-mcp-auth:*) shift; break ;;
    *) echo "docker: unknown option $1" >&2; exit 125 ;;
  esac
done
export root="${root}" user volume workdir environment
exec /usr/bin/unshare --mount /bin/sh -ec '
mkdir -p "$root$volume"
mount --bind "$root" "$root"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$volume" "$root$volume"
mount -o remount,bind,ro "$root"
exec /usr/bin/env -i $environment /usr/bin/unshare --root="$root" --wd="$workdir" --setgid="\${user#*:}" --setuid="\${user%:*}" "$@"' \
  sh ${execForm(stage, "ENTRYPOINT").join(" ")} "$@"
`;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "docker"), text);
  await chmod(join(folder, "docker"), 0o755);
  return folder;
}
