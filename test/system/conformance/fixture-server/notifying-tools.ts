import { setTimeout as delay } from "node:timers/promises";
import type { McpServer, ServerContext, ServerNotifier } from "@modelcontextprotocol/server";
import { say } from "./say.ts";

/** Tools that notify before they respond: log lines, progress, a closed stream, a changed list. */
export function notifyingTools(server: McpServer, lists: ServerNotifier): void {
  const log = async ({ mcpReq }: ServerContext) => {
    await mcpReq.log("info", "Tool execution started");
    await delay(50);
    await mcpReq.log("info", "Tool processing data");
    await delay(50);
    await mcpReq.log("info", "Tool execution completed");
    return say("logged three lines");
  };
  server.registerTool("test_tool_with_logging", { description: "Logs while it runs" }, log);
  server.registerTool("test_logging_tool", { description: "Logs to subscribers" }, log);
  server.registerTool("test_tool_with_progress", { description: "Reports progress" }, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progress > 0) await delay(50);
      if (progressToken === undefined) continue;
      const params = { progressToken, progress, total: 100 };
      await mcpReq.notify({ method: "notifications/progress", params });
    }
    return say("completed");
  });
  server.registerTool(
    "test_reconnection",
    { description: "Closes its stream and responds after a reconnect" },
    async ({ http }) => {
      http?.closeSSE?.();
      await delay(100);
      return say("answered after the stream was closed");
    },
  );
  server.registerTool("test_trigger_tool_change", { description: "Notifies of changed tools" }, () => {
    lists.toolsChanged();
    return say("notified the subscribers");
  });
  server.registerTool("test_trigger_prompt_change", { description: "Notifies of changed prompts" }, () => {
    lists.promptsChanged();
    return say("notified the subscribers");
  });
}
