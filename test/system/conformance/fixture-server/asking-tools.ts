import {
  type ElicitRequestFormParams,
  inputRequired,
  inputResponse,
  type McpServer,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { z } from "zod";
import { say } from "./say.ts";

type Form = ElicitRequestFormParams["requestedSchema"];

const options = ["option1", "option2", "option3"];
const titled = (noun: string) =>
  ["First", "Second", "Third"].map((title, index) => ({
    const: `value${index + 1}`,
    title: `${title} ${noun}`,
  }));
const defaults: Form = {
  type: "object",
  properties: {
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  },
};
const enums: Form = {
  type: "object",
  properties: {
    untitledSingle: { type: "string", enum: options },
    titledSingle: { type: "string", oneOf: titled("Option") },
    legacyEnum: {
      type: "string",
      enum: ["opt1", "opt2", "opt3"],
      enumNames: ["Option One", "Option Two", "Option Three"],
    },
    untitledMulti: { type: "array", items: { type: "string", enum: options } },
    titledMulti: { type: "array", items: { anyOf: titled("Choice") } },
  },
};
const contact: Form = {
  type: "object",
  properties: {
    username: { type: "string", description: "User's response" },
    email: { type: "string", description: "User's email address" },
  },
  required: ["username", "email"],
};

/**
 * Tools that ask the client's model or its user: with a server request under 2025-11-25, with a result that names the required input
 * under 2026-07-28. The SDK converts between the two.
 */
export function askingTools(server: McpServer): void {
  server.registerTool(
    "test_sampling",
    {
      description: "Asks the client's model",
      inputSchema: z.object({ prompt: z.string().describe("What to ask the model") }),
    },
    ({ prompt }, { mcpReq }) => {
      const answer = inputResponse(mcpReq.inputResponses, "answer");
      if (answer.kind === "sampling") return say(`LLM response: ${JSON.stringify(answer.result.content)}`);
      const content = { type: "text" as const, text: prompt };
      const asked = inputRequired.createMessage({ messages: [{ role: "user", content }], maxTokens: 100 });
      return inputRequired({ inputRequests: { answer: asked } });
    },
  );
  server.registerTool(
    "test_elicitation",
    {
      description: "Asks the user",
      inputSchema: z.object({ message: z.string().describe("What to show the user") }),
    },
    ({ message }, context) => form(context, message, contact, "User response:"),
  );
  server.registerTool(
    "test_elicitation_sep1034_defaults",
    { description: "Asks the user with a prefilled form" },
    (context) => form(context, "Who are you?", defaults, "Elicitation completed:"),
  );
  server.registerTool(
    "test_elicitation_sep1330_enums",
    { description: "Asks the user with all kinds of choices" },
    (context) => form(context, "Choose, please", enums, "Elicitation completed:"),
  );
}

function form({ mcpReq }: ServerContext, message: string, requestedSchema: Form, label: string) {
  const answer = inputResponse(mcpReq.inputResponses, "form");
  if (answer.kind === "elicit") {
    return say(`${label} action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`);
  }
  const asked = inputRequired.elicit({ message, requestedSchema });
  return inputRequired({ inputRequests: { form: asked } });
}
