import { McpServer, type ServerNotifier } from "@modelcontextprotocol/server";
import { askingTools } from "./asking-tools.ts";
import { contentTools } from "./content-tools.ts";
import { inputRequiredTools } from "./input-required-tools.ts";
import { notifyingTools } from "./notifying-tools.ts";
import { prompts } from "./prompts.ts";
import { requestState } from "./request-state.ts";
import { resources } from "./resources.ts";
import { schemaTools } from "./schema-tools.ts";

/** Everything that the suite's server scenarios call by name; `lists` notifies subscribers of changed lists. */
export function fixtureMcpServer(lists: ServerNotifier): McpServer {
  const server = new McpServer(
    { name: "fixture", version: "1.0.0" },
    {
      capabilities: { logging: {}, resources: { subscribe: true } },
      requestState: { verify: requestState.verify },
    },
  );
  contentTools(server);
  schemaTools(server);
  notifyingTools(server, lists);
  askingTools(server);
  inputRequiredTools(server);
  resources(server);
  prompts(server);
  return server;
}
