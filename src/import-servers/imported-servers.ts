import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseEnv } from "node:util";
import type { LeftOut, ServerEntry, ServersFile } from "./entries.ts";
import { remoteServer } from "./remote-server.ts";
import { type ImportedServer, NotImportable } from "./servers.ts";
import { commandLine, stdioServer } from "./stdio-server.ts";
import { toolRules } from "./tool-rules.ts";
import { UnresolvedVariable, variableResolver } from "./variables.ts";
import { unwrapCommand } from "./wrapped-commands.ts";

interface ImportContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of the file: `envFile` is relative to it. */
  readonly folder: string;
  readonly inputs: ServersFile["inputs"];
  /** Receives the names of the variables whose values the server gets from `env`. */
  readonly used: Set<string>;
}

/** Keys that concern only the client. */
const ofTheClient = new Set(
  "alwaysAllow autoApprove autoApproved trust icon timeout startup_timeout_sec disabledReason gallery version dev source sandboxEnabled stderr keep_alive displayName id name title author repository homepage tags".split(
    " ",
  ),
);
const understood = new Set(
  "command args env environment envFile cwd url serverUrl httpUrl type transport headers auth oauth disabled enabled description disabledTools excludeTools includeTools tools".split(
    " ",
  ),
);

/**
 * The servers of a file, with every variable resolved.
 * @param options.env the environment of the import
 * @param options.folder the folder of the file, for `envFile`
 */
export function importedServers(
  file: ServersFile,
  options: Pick<ImportContext, "env" | "folder">,
): { readonly servers: readonly ImportedServer[]; readonly leftOut: readonly LeftOut[] } {
  const servers: ImportedServer[] = [];
  const leftOut: LeftOut[] = [...file.leftOut];
  for (const [name, entry] of file.entries) {
    const used = new Set<string>();
    try {
      const server = importedServer(name, entry, { ...options, inputs: file.inputs, used });
      // Whoever wrote the file chose where these values go.
      const taken =
        used.size > 0 ? [`it gets the values of ${[...used].join(", ")} from your environment`] : [];
      servers.push({ ...server, notes: [...server.notes, ...taken] });
    } catch (error) {
      if (!(error instanceof NotImportable || error instanceof UnresolvedVariable)) throw error;
      leftOut.push({ name, reason: error.message, fix: error.fix });
    }
  }
  return { servers, leftOut };
}

function importedServer(name: string, entry: ServerEntry, context: ImportContext): ImportedServer {
  if (entry.disabled === true || entry.enabled === false)
    throw new NotImportable("it is disabled in the file", "remove the line that disables it");
  const resolved = variableResolver(context.env, context.inputs, context.used);
  const { rules, notes } = toolRules(entry);
  const common = { name, description: entry.description, tools: rules, notes: [...notes, ...ignored(entry)] };
  const url = entry.url ?? entry.serverUrl ?? entry.httpUrl;
  if (entry.command === undefined) {
    if (url === undefined)
      throw new NotImportable("it has neither a command nor a URL", "add command and args, or url");
    if (/^wss?$|^websocket$/i.test(entry.type ?? entry.transport ?? ""))
      throw new NotImportable("it speaks MCP over WebSocket", "use the server's URL for streamable HTTP");
    const bearer = typeof entry.auth === "string" && entry.auth !== "oauth" ? entry.auth : undefined;
    const headers = Object.entries({
      ...entry.headers,
      ...(bearer !== undefined && { Authorization: `Bearer ${bearer}` }),
    });
    return remoteServer(
      common,
      resolved(url),
      headers.map(([header, value]) => [header, resolved(String(value))] as const),
    );
  }

  const env = {
    ...(entry.envFile !== undefined && readEnvFile(resolved(entry.envFile), context.folder)),
    ...Object.fromEntries(
      Object.entries({ ...entry.environment, ...entry.env }).flatMap(([key, value]) =>
        value === null ? [] : [[key, resolved(String(value))] as const],
      ),
    ),
  };
  // mcp-remote resolves the variables of its arguments from `env`.
  const ofArguments = new Set<string>();
  const inArguments = variableResolver({ ...context.env, ...env }, context.inputs, ofArguments);
  const [command = "", ...args] = commandLine(entry).map(inArguments);
  const cwd = entry.cwd === undefined ? undefined : inArguments(entry.cwd);
  for (const variable of ofArguments) if (!(variable in env)) context.used.add(variable);
  const unwrapped = unwrapCommand(command, args);
  if (unwrapped.kind === "remote") {
    const headers = unwrapped.headers.map((line) => {
      const [, header = "", value = ""] = /^([^:]*):\s*(.*)$/s.exec(line) ?? [];
      return [header, value] as const;
    });
    return remoteServer(common, unwrapped.url, headers);
  }
  if (unwrapped.command === "")
    throw new NotImportable("its command is empty", "write the program that starts the server");
  return stdioServer(common, {
    command: unwrapped.command,
    args: unwrapped.args,
    env,
    ...(cwd !== undefined && { cwd }),
  });
}

/** Notes on what is not taken over. */
function ignored(entry: ServerEntry): readonly string[] {
  const unknown = Object.keys(entry).filter((key) => !understood.has(key) && !ofTheClient.has(key));
  return [
    ...(unknown.length > 0 ? [`not taken over: ${unknown.join(", ")}`] : []),
    ...(entry.oauth === undefined && typeof entry.auth !== "object"
      ? []
      : [
          "its OAuth client is not taken over: register the gateway's redirect URI for it, and set upstream_oauth2.client_id",
        ]),
  ];
}

function readEnvFile(file: string, folder: string): Record<string, string> {
  try {
    const read = parseEnv(readFileSync(resolve(folder, file), "utf8"));
    return Object.fromEntries(Object.entries(read).map(([name, value]) => [name, value ?? ""]));
  } catch {
    throw new NotImportable(
      "its envFile cannot be read",
      "make the file available, or write its values into env",
    );
  }
}
