import { McpServer, type ServerNotifier } from "@modelcontextprotocol/server";
import { askingTools } from "./asking-tools.ts";
import { contentTools } from "./content-tools.ts";
import { inputRequiredTools } from "./input-required-tools.ts";
import { notifyingTools } from "./notifying-tools.ts";
import { prompts } from "./prompts.ts";
import { requestState } from "./request-state.ts";
import { resources } from "./resources.ts";
import { schemaTools } from "./schema-tools.ts";

/** A server that has only the tools and prompts whose names begin so, without that beginning. */
export interface Part {
  readonly prefix: string;
  readonly resources: boolean;
}

/**
 * Everything that the suite's server scenarios call by name; `lists` notifies subscribers of changed lists.
 * @param part absent: all of it
 */
export function fixtureMcpServer(lists: ServerNotifier, part?: Part): McpServer {
  const server = new McpServer(
    { name: "fixture", version: "1.0.0" },
    {
      capabilities: { logging: {}, resources: { subscribe: true } },
      requestState: { verify: requestState.verify },
    },
  );
  if (part) keepOnly(server, part.prefix);
  contentTools(server);
  schemaTools(server);
  notifyingTools(server, lists);
  askingTools(server);
  inputRequiredTools(server);
  if (part?.resources !== false) resources(server);
  prompts(server);
  return server;
}

/** Registers what begins with `prefix` without it, and nothing else. */
function keepOnly(server: McpServer, prefix: string): void {
  const tool = server.registerTool.bind(server);
  const prompt = server.registerPrompt.bind(server);
  const kept = <T extends { remove(): void }>(name: string, register: (inner: string) => T): T => {
    const registered = register(name.startsWith(prefix) ? name.slice(prefix.length) : name);
    if (!name.startsWith(prefix)) registered.remove();
    return registered;
  };
  // The overloads are those of the functions that are called.
  server.registerTool = ((name: string, ...rest: [never, never]) =>
    kept(name, (inner) => tool(inner, ...rest))) as typeof server.registerTool;
  server.registerPrompt = ((name: string, ...rest: [never, never]) =>
    kept(name, (inner) => prompt(inner, ...rest))) as typeof server.registerPrompt;
}
