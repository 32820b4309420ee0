import { rmSync } from "node:fs";
import { dirname } from "node:path";
import { systemCode, thisUser, UnusableSetting } from "../util/unusable-setting.ts";

/** The setting of a listener's address. */
export type ListenSetting = "listen.grpc" | "listen.http" | "listen.admin" | "listen.xds.address";

/**
 * Runs `bind`, which binds a listener to `address`.
 *
 * An existing socket file is replaced, unless `shared`: then it belongs to a supervisor, which binds it for this process. A Unix socket is created under a umask that gives the file its permissions from the start: setting
 * the mode afterwards would leave it accessible for a moment.
 * @param address `host:port` or `unix:/path`
 * @throws UnusableSetting that names the setting and the fix
 */
export async function bindAddress<T>(
  setting: ListenSetting,
  address: string,
  socketMode: number,
  bind: () => Promise<T>,
  shared = false,
): Promise<T> {
  const socket = /^unix:(.+)$/.exec(address)?.[1];
  const before = process.umask(0o777 & ~socketMode);
  try {
    if (socket && !shared) rmSync(socket, { force: true });
    return await bind();
  } catch (error) {
    throw new UnusableSetting(setting, `cannot listen on ${address}`, error, fix(setting, socket, error));
  } finally {
    process.umask(before);
  }
}

function fix(setting: ListenSetting, socket: string | undefined, error: unknown): string {
  if (socket !== undefined) return `${dirname(socket)} must be a folder that ${thisUser()} can write to`;
  const other = `set ${setting} (--${setting.replace(".address", "").replace(".", "-")}) to another address`;
  switch (systemCode(error)) {
    case "EADDRINUSE":
      return `stop the process that uses it, or ${other}`;
    case "EADDRNOTAVAIL":
      return `this machine does not have that address: ${other}`;
    case "EACCES":
      return `ports below 1024 require a privilege: ${other}`;
    default:
      return other;
  }
}
