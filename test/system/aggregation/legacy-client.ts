import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CallToolResultSchema,
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { answers, bearing, type ClientOptions, calledOf, type Message, type TestClient } from "./clients.ts";
import type { LegacyRevision } from "./members/sessions-member.ts";

/** The first major version of the SDK, which offers no newer revision than `revision`. */
export async function legacyClient(
  options: ClientOptions & { readonly revision: LegacyRevision },
): Promise<TestClient> {
  const { revision, without = [], answer = async () => "accept" as const } = options;
  const asked: Message[] = [];
  const notified: Message[] = [];
  const withElicitation = revision >= "2025-06-18" && !without.includes("elicitation");
  const withUrls = revision >= "2025-11-25";
  const client = new Client(
    { name: "test client", version: "1.0.0" },
    {
      capabilities: {
        ...(withElicitation && { elicitation: withUrls ? { form: {}, url: {} } : {} }),
        ...(!without.includes("sampling") && { sampling: {} }),
        ...(!without.includes("roots") && { roots: { listChanged: true } }),
      },
    },
  );
  const note = ({ method, params }: { method: string; params?: object }) =>
    asked.push({ method, params: { ...params } });
  if (withElicitation)
    client.setRequestHandler(ElicitRequestSchema, async (request) => {
      note(request);
      const action = await answer({ ...request.params });
      return {
        action,
        ...(action === "accept" && request.params.mode !== "url" && { content: answers.content }),
      };
    });
  if (!without.includes("sampling"))
    client.setRequestHandler(CreateMessageRequestSchema, (request) => {
      note(request);
      return answers.sampled;
    });
  if (!without.includes("roots"))
    client.setRequestHandler(ListRootsRequestSchema, (request) => {
      note(request);
      return answers.roots;
    });
  client.fallbackNotificationHandler = async ({ method, params }) => {
    notified.push({ method, params: { ...params } });
  };
  const transport = new StreamableHTTPClientTransport(new URL(options.url), {
    fetch: offering(revision, bearing(options)),
  });
  await client.connect(transport);

  return {
    instructions: client.getInstructions(),
    sessionId: () => transport.sessionId,
    revision: () => transport.protocolVersion,
    asked,
    notified,
    listTools: async () => (await client.listTools()).tools,
    async toolNames() {
      const names: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await client.listTools(cursor === undefined ? {} : { cursor });
        names.push(...page.tools.map(({ name }) => name));
        cursor = page.nextCursor;
      } while (cursor !== undefined);
      return names;
    },
    async call(name, args = {}, { signal, onprogress } = {}) {
      const result = await client.callTool({ name, arguments: args }, CallToolResultSchema, {
        timeout: 60_000,
        ...(signal && { signal }),
        ...(onprogress && { onprogress }),
      });
      return calledOf(CallToolResultSchema.parse(result));
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
      if (uri !== undefined) await client.subscribeResource({ uri });
    },
    end: () => transport.terminateSession(),
    close: () => client.close(),
  };
}

/** As an older SDK: it asks for `revision` when it initializes. */
function offering(revision: LegacyRevision, fetch: typeof globalThis.fetch): typeof globalThis.fetch {
  return (input, init) => {
    if (typeof init?.body !== "string" || !init.body.includes('"initialize"')) return fetch(input, init);
    const message = JSON.parse(init.body);
    if (message.method === "initialize") message.params.protocolVersion = revision;
    return fetch(input, { ...init, body: JSON.stringify(message) });
  };
}
