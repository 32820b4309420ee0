import type { ServerEntry } from "./entries.ts";
import { secretArguments } from "./secret-texts.ts";
import type { Common, StdioServer } from "./servers.ts";

/**
 * A server that the bridge starts, with notes on what it needs there.
 * @param start its command, arguments, environment and folder; variables are resolved
 */
export function stdioServer(
  common: Common,
  start: Pick<StdioServer, "command" | "args" | "env" | "cwd">,
): StdioServer {
  const notes = [...common.notes];
  const secrets = secretArguments(start.args);
  if (secrets.length > 0)
    notes.push(
      `${secrets.join(", ")} seems to contain a secret: every process on the bridge's machine can read arguments. ` +
        "If the server reads it from an environment variable, move it to env and import again with --force",
    );
  if ([start.command, ...start.args].some((text) => /^(?:[A-Za-z]:\\|\/Users\/|~\/)/.test(text)))
    notes.push(
      "a path is of a desktop machine or begins with ~: change it in bridge.json to one on the bridge's machine",
    );
  return { kind: "stdio", ...common, ...start, notes };
}

/** The command of an entry and its arguments, as written: one text, a list, or an object. */
export function commandLine(entry: ServerEntry): readonly string[] {
  const { command = "", args = [] } = entry;
  if (typeof command === "string") return [command, ...args];
  return Array.isArray(command) ? [...command, ...args] : [command.path, ...(command.args ?? []), ...args];
}
