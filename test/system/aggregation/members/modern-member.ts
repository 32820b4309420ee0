import { toNodeHandler } from "@modelcontextprotocol/node";
import {
  type CallToolResult,
  completable,
  createMcpHandler,
  inputRequired,
  inputResponse,
  type McpHttpHandler,
  McpServer,
  ResourceTemplate,
} from "@modelcontextprotocol/server";
import { z } from "zod";
import { type Member, Signals, startMember } from "./member.ts";
import { cities, form, longName, oddName, page, widget } from "./samples.ts";

const say = (value: unknown): CallToolResult => ({
  content: [{ type: "text", text: typeof value === "string" ? value : JSON.stringify(value) }],
});

/** A server that speaks 2026-07-28 only, on the second major version of the SDK. */
export async function modernMember(name: string): Promise<Member> {
  const signals = new Signals();
  const handler: McpHttpHandler = createMcpHandler(() => modernMcpServer(name, signals), {
    legacy: "reject",
  });
  const handle = toNodeHandler(handler);
  return startMember(signals, {
    handle: (request, response, body) => handle(request, response, body ? JSON.parse(body) : undefined),
    toolsChanged: () => handler.notify.toolsChanged(),
    resourceUpdated: (uri) => handler.notify.resourceUpdated(uri),
    close: () => handler.close(),
  });
}

function modernMcpServer(name: string, signals: Signals): McpServer {
  const server = new McpServer(
    { name, version: "1.0.0" },
    {
      capabilities: {
        logging: {},
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
      },
      instructions: `Instructions of ${name}`,
    },
  );
  tools(server, name, signals);
  asking(server, name);
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
    ({ href }, { id }) => text(href, `note ${String(id)} of ${name}`),
  );
  server.registerPrompt(
    "greet",
    {
      description: `Greets, from ${name}`,
      argsSchema: z.object({
        city: completable(z.string(), (typed) => cities.filter((city) => city.startsWith(typed))),
      }),
    },
    ({ city }) => ({ messages: [{ role: "user", content: { type: "text", text: `${name}: ${city}` } }] }),
  );
  return server;
}

function tools(server: McpServer, name: string, signals: Signals): void {
  server.registerTool("whoami", { description: `Names the server, ${name}` }, () => say(name));
  server.registerTool(
    "echo",
    { description: "Echoes", inputSchema: z.object({ text: z.string() }) },
    ({ text }) => say(text),
  );
  server.registerTool(
    "store",
    {
      description: "Wants a parameter as a header, too",
      inputSchema: z.object({
        region: z.string().meta({ "x-mcp-header": "Region" }),
        options: z.object({ copies: z.int().meta({ "x-mcp-header": "Copies" }) }).optional(),
      }),
    },
    ({ region, options }) => say(`stored in ${region} ${options?.copies ?? 1} times`),
  );
  server.registerTool(longName, { description: "A long name" }, () => say(`long ${name}`));
  server.registerTool(oddName, { description: "An odd name" }, () => say(`odd ${name}`));
  server.registerTool("broken", { description: "Fails" }, () => ({ ...say("it broke"), isError: true }));
  server.registerTool("progress", { description: "Reports progress" }, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [1, 2, 3]) {
      if (progressToken === undefined) continue;
      await mcpReq.notify({
        method: "notifications/progress",
        params: { progressToken, progress, total: 3 },
      });
    }
    return say("done");
  });
  server.registerTool("wait", { description: "Waits" }, async ({ mcpReq }) =>
    say(await signals.wait(mcpReq.signal)),
  );
  server.registerTool("log", { description: "Logs" }, async ({ mcpReq }) => {
    await mcpReq.log("warning", `log of ${name}`, "disk");
    return say("logged");
  });
  server.registerTool(
    "measure",
    { description: "Structured", outputSchema: z.object({ value: z.number() }) },
    () => ({ ...say("42"), structuredContent: { value: 42 } }),
  );
  server.registerTool(
    "link",
    { description: "Names resources", _meta: { ui: { resourceUri: widget.uri } } },
    () => ({
      content: [
        { type: "resource", resource: { uri: "memo://one", text: `one of ${name}` } },
        { type: "resource_link", uri: "memo://notes/7", name: "seven" },
      ],
    }),
  );
  if (signals.added) server.registerTool("added", { description: "Comes and goes" }, () => say("added"));
}

/** Tools whose result names the input that they still need. */
function asking(server: McpServer, name: string): void {
  server.registerTool("sample", { description: "Asks the model" }, ({ mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, "answer");
    if (answer.kind === "sampling") return say(answer.result.content);
    const content = { type: "text" as const, text: `prompt of ${name}` };
    const asked = inputRequired.createMessage({ messages: [{ role: "user", content }], maxTokens: 10 });
    return inputRequired({ inputRequests: { answer: asked } });
  });
  server.registerTool("roots", { description: "Asks for roots" }, ({ mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, "roots");
    if (answer.kind === "roots") return say(answer.roots.map(({ uri }) => uri).join(" "));
    return inputRequired({ inputRequests: { roots: inputRequired.listRoots() } });
  });
  server.registerTool("ask", { description: "Asks the user" }, ({ mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, "form");
    if (answer.kind === "elicit") return say({ action: answer.action, content: answer.content ?? {} });
    const asked = inputRequired.elicit({ message: `Who are you? asks ${name}`, requestedSchema: form });
    return inputRequired({ inputRequests: { form: asked } });
  });
  server.registerTool("ask_url", { description: "Sends the user to a page" }, ({ mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, "page");
    if (answer.kind === "elicit") return say({ action: answer.action });
    const asked = inputRequired.elicitUrl({ message: `Pay, asks ${name}`, url: page });
    return inputRequired({ inputRequests: { page: asked } });
  });
}
