import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { parse } from "yaml";
import { z } from "zod";
import { runImport } from "../../../../src/cli/import.ts";

const root = join(import.meta.dirname, "../../../..");
const routesOf = z.object({ routes: z.array(z.record(z.string(), z.unknown())) });

/** The members of the aggregated route, and the route itself. */
export interface ImportedServers {
  readonly routes: readonly Record<string, unknown>[];
  /** Secrets that the routes refer to. */
  readonly env: Readonly<Record<string, string>>;
  readonly bridge: { readonly program: string; readonly config: string };
}

/**
 * Imports a servers.json like that of a desktop client: two stdio servers, which the bridge serves, one with an API key, and one that
 * speaks legacy HTTP+SSE. The aggregated route also has `oauth`, a route that exists already.
 * @param options.from origin of the routes
 */
export async function importedServers(options: {
  readonly folder: string;
  readonly from: string;
  readonly bridgePort: number;
  readonly keyed: { readonly url: string; readonly key: string };
  readonly legacy: string;
  readonly oauth: string;
}): Promise<ImportedServers> {
  const { folder, keyed } = options;
  const reference = (name: string) => join(root, "node_modules/@modelcontextprotocol", name, "dist/index.js");
  const file = join(folder, "servers.json");
  const memory = join(folder, "memory.jsonl");
  const mcpServers = {
    demo: { command: process.execPath, args: [reference("server-everything"), "stdio"] },
    memory: {
      command: process.execPath,
      args: [reference("server-memory")],
      env: { MEMORY_FILE_PATH: memory },
    },
    keyed: { url: keyed.url, headers: { "x-api-key": `\${KEYED_API_KEY}` } },
    legacy: { url: options.legacy },
  };
  await writeFile(file, JSON.stringify({ mcpServers }));
  const out = join(folder, "imported");
  let faults = "";
  const bridge = `127.0.0.1:${options.bridgePort}`;
  const code = runImport(
    file,
    { from: options.from, out, bridge, aggregate: "all", clientId: "unused" },
    {
      env: { KEYED_API_KEY: keyed.key },
      out: () => {},
      err: (text) => {
        faults += text;
      },
    },
  );
  if (code !== 0 || faults !== "") throw new Error(`import: ${faults}`);
  const { routes } = routesOf.parse(parse(await readFile(join(out, "routes.yaml"), "utf8")));
  const members = [...Object.keys(mcpServers), options.oauth];
  return {
    routes: routes.map((route) =>
      route.id === "all" ? { ...route, mcp: { aggregate: { routes: members } } } : route,
    ),
    env: z.record(z.string(), z.string()).parse(parseEnv(await readFile(join(out, "secrets.env"), "utf8"))),
    bridge: { program: join(out, "bridge.py"), config: join(out, "bridge.json") },
  };
}

/** One call of each member. */
export const oneCallEach = [
  { tool: "demo__echo", arguments: { message: "hello" }, answer: "Echo: hello" },
  { tool: "memory__read_graph", arguments: {}, answer: "entities" },
  { tool: "keyed__whoami", arguments: {}, answer: "holder of the key" },
  { tool: "legacy__shout", arguments: { text: "anybody" }, answer: "ANYBODY" },
  { tool: "everything__whoami", arguments: {}, answer: "ally" },
];
