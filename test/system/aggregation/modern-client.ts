import {
  Client,
  type McpSubscription,
  StreamableHTTPClientTransport,
  type VersionNegotiationMode,
} from "@modelcontextprotocol/client";
import { answers, bearing, type ClientOptions, calledOf, type Message, type TestClient } from "./clients.ts";

/** The second major version of the SDK, in either of its eras. */
export async function modernClient(
  options: ClientOptions & { readonly mode: VersionNegotiationMode },
): Promise<TestClient> {
  const { without = [], answer = async () => "accept" as const } = options;
  const asked: Message[] = [];
  const notified: Message[] = [];
  const client = new Client(
    { name: "test client", version: "1.0.0" },
    {
      capabilities: {
        ...(!without.includes("elicitation") && { elicitation: { form: {}, url: {} } }),
        ...(!without.includes("sampling") && { sampling: {} }),
        ...(!without.includes("roots") && { roots: { listChanged: true } }),
      },
      versionNegotiation: { mode: options.mode },
    },
  );
  const note = ({ method, params }: { method: string; params?: object }) =>
    asked.push({ method, params: { ...params } });
  if (!without.includes("elicitation"))
    client.setRequestHandler("elicitation/create", async (request) => {
      note(request);
      const action = await answer({ ...request.params });
      return {
        action,
        ...(action === "accept" && request.params.mode !== "url" && { content: answers.content }),
      };
    });
  if (!without.includes("sampling"))
    client.setRequestHandler("sampling/createMessage", (request) => {
      note(request);
      return answers.sampled;
    });
  if (!without.includes("roots"))
    client.setRequestHandler("roots/list", (request) => {
      note(request);
      return answers.roots;
    });
  client.fallbackNotificationHandler = async ({ method, params }) => {
    notified.push({ method, params: { ...params } });
  };
  const transport = new StreamableHTTPClientTransport(new URL(options.url), { fetch: bearing(options) });
  await client.connect(transport);
  const subscriptions: McpSubscription[] = [];

  return {
    instructions: client.getInstructions(),
    sessionId: () => transport.sessionId,
    revision: () => client.getNegotiatedProtocolVersion(),
    asked,
    notified,
    listTools: async () => (await client.listTools()).tools,
    toolNames: async () => (await client.listTools()).tools.map(({ name }) => name),
    async call(name, args = {}, { signal, onprogress } = {}) {
      const result = await client.callTool(
        { name, arguments: args },
        { timeout: 60_000, ...(signal && { signal }), ...(onprogress && { onprogress }) },
      );
      return calledOf(result);
    },
    listPrompts: async () => (await client.listPrompts()).prompts,
    async getPrompt(name, args) {
      const { messages } = await client.getPrompt({ name, arguments: args });
      return messages.map(({ content }) => (content.type === "text" ? content.text : "")).join("\n");
    },
    listResources: async () => (await client.listResources()).resources,
    listTemplates: async () => (await client.listResourceTemplates()).resourceTemplates,
    read: async (uri) => (await client.readResource({ uri })).contents,
    complete: async (ref, argument) => (await client.complete({ ref, argument })).completion.values,
    async follow(uri) {
      if (client.getProtocolEra() === "legacy") {
        if (uri !== undefined) await client.subscribeResource({ uri });
        return;
      }
      subscriptions.push(
        await client.listen({
          toolsListChanged: true,
          promptsListChanged: true,
          resourcesListChanged: true,
          ...(uri !== undefined && { resourceSubscriptions: [uri] }),
        }),
      );
    },
    end: () => transport.terminateSession(),
    async close() {
      for (const subscription of subscriptions) await subscription.close();
      await client.close();
    },
  };
}
