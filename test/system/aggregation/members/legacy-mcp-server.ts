import { completable } from "@modelcontextprotocol/sdk/server/completable.js";
import { McpServer, ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import {
  type CallToolResult,
  CreateMessageResultSchema,
  ElicitResultSchema,
  ListRootsResultSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";
import type { Signals } from "./member.ts";
import { cities, form, longName, oddName, page, widget } from "./samples.ts";

const say = (value: unknown): CallToolResult => ({
  content: [{ type: "text", text: typeof value === "string" ? value : JSON.stringify(value) }],
});

/** Every feature of the revisions up to 2025-11-25, on the first major version of the SDK. `name` is what its answers contain. */
export function legacyMcpServer(name: string, signals: Signals, revision: string): McpServer {
  const server = new McpServer(
    { name, version: "1.0.0" },
    {
      capabilities: { logging: {}, resources: { subscribe: true }, completions: {} },
      instructions: `Instructions of ${name}`,
    },
  );
  tools(server, name, signals, revision);
  asking(server, name, revision);
  resources(server, name);
  server.registerPrompt(
    "greet",
    {
      description: `Greets, from ${name}`,
      argsSchema: {
        city: completable(z.string(), (typed) => cities.filter((city) => city.startsWith(typed))),
      },
    },
    ({ city }) => ({ messages: [{ role: "user", content: { type: "text", text: `${name}: ${city}` } }] }),
  );
  return server;
}

function tools(server: McpServer, name: string, signals: Signals, revision: string): void {
  server.registerTool("whoami", { description: `Names the server, ${name}` }, () => say(name));
  server.registerTool("echo", { description: "Echoes", inputSchema: { text: z.string() } }, ({ text }) =>
    say(text),
  );
  server.registerTool(longName, { description: "A long name" }, () => say(`long ${name}`));
  server.registerTool(oddName, { description: "An odd name" }, () => say(`odd ${name}`));
  server.registerTool("broken", { description: "Fails" }, () => ({ ...say("it broke"), isError: true }));
  server.registerTool("progress", { description: "Reports progress" }, async (extra) => {
    const progressToken = extra._meta?.progressToken;
    for (const progress of [1, 2, 3]) {
      if (progressToken === undefined) continue;
      const params = { progressToken, progress, total: 3 };
      await extra.sendNotification({ method: "notifications/progress", params });
    }
    return say("done");
  });
  server.registerTool("wait", { description: "Waits" }, async ({ signal }) =>
    say(await signals.wait(signal)),
  );
  server.registerTool("log", { description: "Logs" }, async ({ sendNotification }) => {
    const params = { level: "warning" as const, logger: "disk", data: `log of ${name}` };
    await sendNotification({ method: "notifications/message", params });
    return say("logged");
  });
  if (revision >= "2025-06-18")
    server.registerTool(
      "measure",
      { description: "Structured", outputSchema: { value: z.number() } },
      () => ({ ...say("42"), structuredContent: { value: 42 } }),
    );
  server.registerTool(
    "link",
    { description: "Names resources", _meta: { ui: { resourceUri: widget.uri } } },
    () => ({
      content: [
        { type: "resource", resource: { uri: "memo://one", text: `one of ${name}` } },
        ...(revision >= "2025-06-18"
          ? [{ type: "resource_link" as const, uri: "memo://notes/7", name: "seven" }]
          : []),
      ],
    }),
  );
  const added = server.registerTool("added", { description: "Comes and goes" }, () => say("added"));
  const follow = () => (signals.added ? added.enable() : added.disable());
  follow();
  signals.on("tools", follow);
  server.server.onclose = () => signals.off("tools", follow);
}

/** Tools that ask the client. */
function asking(server: McpServer, name: string, revision: string): void {
  server.registerTool("sample", { description: "Asks the model" }, async ({ sendRequest }) => {
    const content = { type: "text" as const, text: `prompt of ${name}` };
    const params = { messages: [{ role: "user" as const, content }], maxTokens: 10 };
    const answer = await sendRequest({ method: "sampling/createMessage", params }, CreateMessageResultSchema);
    return say(answer.content);
  });
  server.registerTool("roots", { description: "Asks for roots" }, async ({ sendRequest }) => {
    const { roots } = await sendRequest({ method: "roots/list" }, ListRootsResultSchema);
    return say(roots.map(({ uri }) => uri).join(" "));
  });
  if (revision < "2025-06-18") return;
  server.registerTool("ask", { description: "Asks the user" }, async ({ sendRequest }) => {
    const params = { mode: "form" as const, message: `Who are you? asks ${name}`, requestedSchema: form };
    const answer = await sendRequest({ method: "elicitation/create", params }, ElicitResultSchema);
    return say({ action: answer.action, content: answer.content ?? {} });
  });
  if (revision < "2025-11-25") return;
  server.registerTool("ask_url", { description: "Sends the user to a page" }, async ({ sendRequest }) => {
    const params = { mode: "url" as const, message: `Pay, asks ${name}`, url: page, elicitationId: "e1" };
    const answer = await sendRequest({ method: "elicitation/create", params }, ElicitResultSchema);
    return say({ action: answer.action });
  });
}

function resources(server: McpServer, name: string): void {
  const text = (uri: string, value: string) => ({ contents: [{ uri, mimeType: "text/plain", text: value }] });
  server.registerResource("one", "memo://one", { mimeType: "text/plain" }, ({ href }) =>
    text(href, `one of ${name}`),
  );
  server.registerResource("widget", widget.uri, { mimeType: "text/html;profile=mcp-app" }, ({ href }) => ({
    contents: [{ uri: href, mimeType: "text/html;profile=mcp-app", text: widget.html }],
  }));
  server.registerResource(
    "notes",
    new ResourceTemplate("memo://notes/{id}", {
      list: undefined,
      complete: { id: (typed) => ["7", "77", "8"].filter((id) => id.startsWith(typed)) },
    }),
    { mimeType: "text/plain" },
    ({ href }, { id }) => text(href, `note ${id} of ${name}`),
  );
  server.server.setRequestHandler(SubscribeRequestSchema, () => ({}));
  server.server.setRequestHandler(UnsubscribeRequestSchema, () => ({}));
}
