import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseEnv } from "node:util";
import { isLoopbackName } from "../egress/addresses.ts";
import type { LeftOut, ServerEntry, ServersFile } from "./entries.ts";
import { hasSecretInUrl, isSecretName, isSecretValue, secretArguments } from "./secret-texts.ts";
import { type ToolRules, toolRules } from "./tool-rules.ts";
import { UnresolvedVariable, variableResolver } from "./variables.ts";
import { unwrapCommand } from "./wrapped-commands.ts";

interface Common {
  /** As in the file. */
  readonly name: string;
  readonly description?: string;
  readonly tools: ToolRules;
  /** What the person should know; no secrets. */
  readonly notes: readonly string[];
}

/** A server that the bridge starts. */
export interface StdioServer extends Common {
  readonly kind: "stdio";
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** A server with a URL. */
export interface RemoteServer extends Common {
  readonly kind: "remote";
  readonly url: string;
  /** Headers with a credential, with their values. */
  readonly credentials: readonly (readonly [string, string])[];
  /** Other headers. */
  readonly headers: readonly (readonly [string, string])[];
  /** Without credentials: whether the upstream needs none. */
  readonly open: boolean;
}

export type ImportedServer = StdioServer | RemoteServer;

/** Why an entry is not taken over; caught in this file only. */
class NotImportable extends Error {
  readonly fix: string;
  constructor(message: string, fix: string) {
    super(message);
    this.fix = fix;
  }
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
  options: { readonly env: Readonly<Record<string, string | undefined>>; readonly folder: string },
): { readonly servers: readonly ImportedServer[]; readonly leftOut: readonly LeftOut[] } {
  const servers: ImportedServer[] = [];
  const leftOut: LeftOut[] = [...file.leftOut];
  for (const [name, entry] of file.entries) {
    try {
      servers.push(importedServer(name, entry, { ...options, inputs: file.inputs }));
    } catch (error) {
      if (!(error instanceof NotImportable || error instanceof UnresolvedVariable)) throw error;
      leftOut.push({ name, reason: error.message, fix: error.fix });
    }
  }
  return { servers, leftOut };
}

function importedServer(
  name: string,
  entry: ServerEntry,
  options: {
    env: Readonly<Record<string, string | undefined>>;
    folder: string;
    inputs: ServersFile["inputs"];
  },
): ImportedServer {
  if (entry.disabled === true || entry.enabled === false)
    throw new NotImportable("it is disabled in the file", "remove the line that disables it");
  const resolved = variableResolver(options.env, options.inputs);
  const env = Object.fromEntries(
    Object.entries({ ...entry.environment, ...entry.env }).flatMap(([key, value]) =>
      value === null ? [] : [[key, resolved(String(value))] as const],
    ),
  );
  const fromFile = entry.envFile === undefined ? {} : readEnvFile(resolved(entry.envFile), options.folder);
  const { rules, notes } = toolRules(entry);
  const common = { name, description: entry.description, tools: rules };
  const unknown = Object.keys(entry).filter((key) => !understood.has(key) && !ofTheClient.has(key));
  const all = [
    ...notes,
    ...(unknown.length > 0 ? [`not taken over: ${unknown.join(", ")}`] : []),
    ...(entry.oauth === undefined && typeof entry.auth !== "object"
      ? []
      : [
          "its OAuth client is not taken over: register the gateway's redirect URI for it, and set upstream_oauth2.client_id",
        ]),
  ];
  const url = entry.url ?? entry.serverUrl ?? entry.httpUrl;
  if (entry.command === undefined) {
    if (url === undefined)
      throw new NotImportable("it has neither a command nor a URL", "add command and args, or url");
    const bearer = typeof entry.auth === "string" && entry.auth !== "oauth" ? entry.auth : undefined;
    const headers = Object.entries(entry.headers ?? {}).map(
      ([header, value]) => [header, resolved(String(value))] as const,
    );
    if (bearer !== undefined) headers.push(["Authorization", `Bearer ${resolved(bearer)}`]);
    if (/^wss?$|^websocket$/i.test(entry.type ?? entry.transport ?? ""))
      throw new NotImportable("it speaks MCP over WebSocket", "use the server's URL for streamable HTTP");
    return remote({ ...common, notes: all }, resolved(url), headers);
  }

  // mcp-remote resolves the variables of its arguments from `env`.
  const ofEntry = variableResolver({ ...options.env, ...fromFile, ...env }, options.inputs);
  const [command, ...args] = commandLine(entry).map(ofEntry);
  const unwrapped = unwrapCommand(command ?? "", args);
  if (unwrapped.kind === "remote") {
    const headers = unwrapped.headers.map((line) => {
      const [, header = "", value = ""] = /^([^:]*):\s*(.*)$/s.exec(line) ?? [];
      return [header, value] as const;
    });
    return remote({ ...common, notes: all }, unwrapped.url, headers);
  }
  const secrets = secretArguments(unwrapped.args);
  if (secrets.length > 0)
    all.push(
      `${secrets.join(", ")} seems to contain a secret: every process on the bridge's machine can read arguments. ` +
        "If the server reads it from an environment variable, move it to env and import again",
    );
  const foreign = [unwrapped.command, ...unwrapped.args].find((text) =>
    /^(?:[A-Za-z]:\\|\/Users\/|~\/)/.test(text),
  );
  if (foreign !== undefined)
    all.push(
      "a path is of a desktop machine or begins with ~: change it in bridge.json to one on the bridge's machine",
    );
  return {
    kind: "stdio",
    ...common,
    notes: all,
    command: unwrapped.command,
    args: unwrapped.args,
    env: { ...fromFile, ...env },
    ...(entry.cwd !== undefined && { cwd: ofEntry(entry.cwd) }),
  };
}

/** Set by every client, or by Envoy. */
const ofEveryClient =
  /^(?:accept|content-type|content-length|user-agent|host|connection|mcp-protocol-version|mcp-session-id)$/i;

function remote(common: Common, url: string, all: readonly (readonly [string, string])[]): RemoteServer {
  const given = all.filter(([header]) => !ofEveryClient.test(header));
  const parsed = URL.parse(url);
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.hash !== "")
    throw new NotImportable("its URL is not an http or https URL", "write the URL of its MCP endpoint");
  if (parsed.username !== "" || hasSecretInUrl(url))
    throw new NotImportable(
      "its URL seems to contain a secret, and URLs of upstreams appear in logs and in the admin API",
      "use a header if the server accepts one; if it is not a secret, add the route by hand",
    );
  const empty = given.find(([, value]) => value === "" || /\p{Cc}/u.test(value));
  if (empty !== undefined)
    throw new NotImportable(
      `its header ${empty[0]} is empty or has control characters`,
      "set it, and import again",
    );
  const secret = ([header, value]: readonly [string, string]) => isSecretName(header) || isSecretValue(value);
  const credentials = given.filter(secret);
  const local = isLoopbackName(parsed.hostname);
  const open = credentials.length === 0 && (local || parsed.protocol === "http:");
  return {
    kind: "remote",
    ...common,
    url,
    credentials,
    headers: given.filter((header) => !secret(header)),
    open,
    notes: [
      ...common.notes,
      ...(local ? ["its URL is on this machine: it must be one that Envoy reaches"] : []),
      ...(open
        ? ["the gateway sends it no credential (upstream_auth: none)"]
        : credentials.length === 0
          ? [
              "each user signs in at the server (OAuth, discovered); if it needs no sign-in, set upstream_auth: none",
            ]
          : ["all users share the credential of the file"]),
    ],
  };
}

function commandLine(entry: ServerEntry): readonly string[] {
  const { command = "", args = [] } = entry;
  if (typeof command === "string") return [command, ...args];
  return Array.isArray(command) ? [...command, ...args] : [command.path, ...(command.args ?? []), ...args];
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
