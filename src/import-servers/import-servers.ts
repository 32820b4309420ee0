import { randomBytes } from "node:crypto";
import { bridgeConfiguration, composeFile, systemdUnit } from "./bridge-files.ts";
import { bridgeProgram } from "./bridge-program.ts";
import { type LeftOut, readServersFile } from "./entries.ts";
import { envLines, UnquotableValue } from "./env-file.ts";
import { importedServers } from "./imported-servers.ts";
import { type RoutePlaces, routeId } from "./route-places.ts";
import {
  aggregatedRoute,
  bridgeTokenVariable,
  headerFault,
  type Placed,
  routesFile,
  type SignIn,
  serverRoutes,
} from "./routes-file.ts";

export interface ImportOptions {
  /** Text of the configuration of a desktop client or bridge. */
  readonly text: string;
  /** Its folder: `envFile` is relative to it. */
  readonly folder: string;
  /** Values of the file's variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly places: RoutePlaces;
  /** Address of the bridge, `host:port` on loopback. */
  readonly bridge: string;
  /** Id of the route that serves all the others as one; undefined for none. */
  readonly aggregate?: string;
  /** For a complete routes file. */
  readonly signIn?: SignIn;
  /** Absolute path of the folder that the files will be in. */
  readonly out: string;
  /** Values of an earlier `secrets.env`, which are kept: without the same `ENCRYPTION_KEY`, stored tokens are lost. */
  readonly kept: Readonly<Record<string, string>>;
  /** `uid:gid` that the bridge's container runs as. */
  readonly user: string;
}

/** A file to write. */
export interface WrittenFile {
  readonly name: string;
  readonly text: string;
  /** Contains secrets: only its owner may read it. */
  readonly secret: boolean;
}

export interface ImportResult {
  readonly files: readonly WrittenFile[];
  readonly servers: readonly {
    readonly name: string;
    readonly kind: "stdio" | "remote";
    readonly url: string;
    readonly notes: readonly string[];
  }[];
  /** URL of the aggregated route. */
  readonly aggregate?: string;
  readonly leftOut: readonly LeftOut[];
  /** Variables of secrets.env that the person must set. */
  readonly toSet: readonly string[];
}

/**
 * Makes routes and a bridge of a configuration of MCP servers. Nothing that it returns besides `files` contains a value of the configuration's
 * variables, headers or arguments.
 * @throws UnreadableServersFile
 */
export function importServers(options: ImportOptions): ImportResult {
  const { places, out, signIn } = options;
  // Those of servers come from the configuration; one that has been removed leaves no value behind.
  const kept = Object.fromEntries(
    Object.entries(options.kept).filter(([name]) => name === bridgeTokenVariable || !name.startsWith("MCP_")),
  );
  const read = importedServers(readServersFile(options.text), options);
  const taken = new Set([
    ...places.reserved,
    ...(options.aggregate === undefined ? [] : [options.aggregate]),
  ]);
  const placed: Placed[] = [];
  const leftOut: LeftOut[] = [...read.leftOut];
  for (const server of read.servers) {
    const fault = headerFault(server) ?? unquotable(server);
    if (fault === undefined) placed.push({ id: routeId(server.name, taken), server });
    else
      leftOut.push({
        name: server.name,
        reason: fault,
        fix: "remove or change the header, and import again with --force",
      });
  }
  if (placed.length === 0) return { files: [], servers: [], leftOut, toSet: [] };

  const stdio = placed.some(({ server }) => server.kind === "stdio");
  const { routes, variables } = serverRoutes(placed, options);
  const token = kept[bridgeTokenVariable] || randomBytes(32).toString("base64url");
  const secrets: Record<string, string> = {
    ...kept,
    ...(signIn && {
      ENCRYPTION_KEY: kept.ENCRYPTION_KEY || randomBytes(32).toString("base64"),
      ENVOY_SECRET: kept.ENVOY_SECRET || randomBytes(33).toString("base64"),
      OIDC_CLIENT_SECRET: options.env.OIDC_CLIENT_SECRET || kept.OIDC_CLIENT_SECRET || "",
    }),
    ...(stdio && { [bridgeTokenVariable]: token }),
    ...variables,
  };
  const aggregate =
    options.aggregate === undefined ? undefined : aggregatedRoute(options.aggregate, placed, places);
  const all = aggregate === undefined ? routes : [...routes, aggregate];
  const files: WrittenFile[] = [
    { name: "routes.yaml", text: routesFile(all, { places, signIn }), secret: false },
    { name: "secrets.env", text: envLines(secrets), secret: true },
  ];
  if (stdio)
    files.push(
      { name: "bridge.json", text: bridgeConfiguration(placed, options.bridge, token), secret: true },
      { name: "bridge.py", text: bridgeProgram, secret: false },
      { name: "mcp-bridge.service", text: systemdUnit(out), secret: false },
      { name: "compose.bridge.yaml", text: composeFile(options.user), secret: false },
    );
  return {
    files,
    servers: placed.map(({ id, server }) => ({
      name: server.name,
      kind: server.kind,
      url: places.from(id),
      notes: server.notes,
    })),
    ...(options.aggregate !== undefined && { aggregate: places.from(options.aggregate) }),
    leftOut,
    toSet: Object.entries(secrets).flatMap(([name, value]) => (value === "" ? [name] : [])),
  };
}

/** Why a header's value cannot be in an environment file. */
function unquotable(server: Placed["server"]): string | undefined {
  if (server.kind === "stdio") return undefined;
  try {
    envLines(Object.fromEntries([...server.credentials, ...server.headers]));
    return undefined;
  } catch (error) {
    if (error instanceof UnquotableValue)
      return error.message.replace("the value of", "the value of the header");
    throw error;
  }
}
