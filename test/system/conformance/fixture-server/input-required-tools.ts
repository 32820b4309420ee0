import {
  acceptedContent,
  CLIENT_CAPABILITIES_META_KEY,
  type InputRequests,
  inputRequired,
  inputResponse,
  type McpServer,
  type ToolCallback,
} from "@modelcontextprotocol/server";
import { z } from "zod";
import { type Remembered, requestState } from "./request-state.ts";
import { say } from "./say.ts";

const name = z.object({ name: z.string() });
const color = z.object({ color: z.string() });
const confirmation = z.object({ ok: z.boolean() });
const envelope = z.object({
  [CLIENT_CAPABILITIES_META_KEY]: z.object({
    elicitation: z.object({}).optional(),
    sampling: z.object({}).optional(),
  }),
});
const askName = (message: string) => inputRequired.elicit({ message, requestedSchema: name });
const askModel = (text: string, maxTokens: number) =>
  inputRequired.createMessage({ messages: [{ role: "user", content: { type: "text", text } }], maxTokens });

/** Tools of the 2026-07-28 revision that return the input they still need. */
export function inputRequiredTools(server: McpServer): void {
  const tool = (suffix: string, description: string, run: ToolCallback) =>
    server.registerTool(`test_input_required_result_${suffix}`, { description }, run);

  tool("elicitation", "Asks for a name", ({ mcpReq }) => {
    const user = acceptedContent(mcpReq.inputResponses, "user_name", name);
    if (user) return say(`Hello, ${user.name}!`);
    return inputRequired({ inputRequests: { user_name: askName("What is your name?") } });
  });
  tool("sampling", "Asks the model for a capital", ({ mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, "capital_question");
    if (answer.kind === "sampling") return say(JSON.stringify(answer.result.content));
    const capital_question = askModel("What is the capital of France?", 100);
    return inputRequired({ inputRequests: { capital_question } });
  });
  tool("list_roots", "Asks for the client's roots", ({ mcpReq }) => {
    const answer = inputResponse(mcpReq.inputResponses, "client_roots");
    if (answer.kind === "roots") return say(answer.roots.map((root) => root.uri).join("\n"));
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  });
  for (const suffix of ["request_state", "tampered_state"]) {
    tool(suffix, "Asks to confirm, and verifies its returned state", async ({ mcpReq }) => {
      const confirmed = acceptedContent(mcpReq.inputResponses, "confirm", confirmation);
      if (confirmed && mcpReq.requestState<Remembered>()) return say("state-ok");
      const confirm = inputRequired.elicit({ message: "Please confirm", requestedSchema: confirmation });
      return inputRequired({ inputRequests: { confirm }, requestState: await requestState.mint({}) });
    });
  }
  tool("multiple_inputs", "Asks for three things at once", async ({ mcpReq }) => {
    const user = acceptedContent(mcpReq.inputResponses, "user_name", name);
    const greeting = inputResponse(mcpReq.inputResponses, "greeting");
    const roots = inputResponse(mcpReq.inputResponses, "client_roots");
    if (user && greeting.kind === "sampling" && roots.kind === "roots") {
      return say(`${user.name}: ${JSON.stringify(greeting.result.content)}, ${roots.roots.length} roots`);
    }
    return inputRequired({
      inputRequests: {
        user_name: askName("What is your name?"),
        greeting: askModel("Generate a greeting", 50),
        client_roots: inputRequired.listRoots(),
      },
      requestState: await requestState.mint({}),
    });
  });
  tool("multi_round", "Asks twice, one after the other", async ({ mcpReq }) => {
    const user = mcpReq.requestState<Remembered>()?.name;
    const favorite = acceptedContent(mcpReq.inputResponses, "step2", color);
    if (user && favorite) return say(`${user} likes ${favorite.color}`);
    const given = acceptedContent(mcpReq.inputResponses, "step1", name);
    if (!given) {
      const step1 = askName("Step 1: What is your name?");
      return inputRequired({ inputRequests: { step1 }, requestState: await requestState.mint({}) });
    }
    const step2 = inputRequired.elicit({
      message: "Step 2: What is your favorite color?",
      requestedSchema: color,
    });
    return inputRequired({ inputRequests: { step2 }, requestState: await requestState.mint(given) });
  });
  tool("capabilities", "Asks for input that the client supports", ({ mcpReq }) => {
    const declared = envelope.safeParse(mcpReq.envelope).data?.[CLIENT_CAPABILITIES_META_KEY];
    const inputRequests: InputRequests = {};
    if (declared?.elicitation) inputRequests.user_name = askName("What is your name?");
    if (declared?.sampling) inputRequests.greeting = askModel("Generate a greeting", 50);
    const left = Object.keys(inputRequests).filter((key) => !mcpReq.inputResponses?.[key]);
    return left.length > 0 ? inputRequired({ inputRequests }) : say("no further input required");
  });

  server.registerTool("test_missing_capability", { description: "Requires a client with sampling" }, () =>
    inputRequired({ inputRequests: { answer: askModel("Are you there?", 10) } }),
  );
  server.registerTool(
    "test_streaming_elicitation",
    { description: "Logs, then asks" },
    async ({ mcpReq }) => {
      await mcpReq.log("info", "about to ask");
      return inputRequired({ inputRequests: { user_name: askName("What is your name?") } });
    },
  );
}
