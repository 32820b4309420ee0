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
