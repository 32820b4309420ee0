import {
  acceptedContent,
  type ContentBlock,
  completable,
  type GetPromptResult,
  inputRequired,
  type McpServer,
} from "@modelcontextprotocol/server";
import { z } from "zod";
import { samples } from "./samples.ts";

const context = z.object({ context: z.string() });

/** Prompts with and without arguments (the first argument supports completion), with embedded content, and one that asks for input. */
export function prompts(server: McpServer): void {
  server.registerPrompt("test_simple_prompt", { description: "Takes no arguments" }, () =>
    messages({ type: "text", text: "This is a simple prompt for testing." }),
  );
  server.registerPrompt(
    "test_prompt_with_arguments",
    {
      description: "Repeats its arguments",
      argsSchema: z.object({
        arg1: completable(z.string().describe("First test argument"), (typed) =>
          ["paris", "park", "party"].filter((word) => word.startsWith(typed)),
        ),
        arg2: z.string().describe("Second test argument"),
      }),
    },
    ({ arg1, arg2 }) =>
      messages({ type: "text", text: `Prompt with arguments: arg1='${arg1}', arg2='${arg2}'` }),
  );
  server.registerPrompt(
    "test_prompt_with_embedded_resource",
    {
      description: "Embeds a resource",
      argsSchema: z.object({ resourceUri: z.string().describe("URI of the resource to embed") }),
    },
    ({ resourceUri: uri }) =>
      messages(
        {
          type: "resource",
          resource: { uri, mimeType: "text/plain", text: "Embedded resource content for testing." },
        },
        { type: "text", text: "Please process the embedded resource above." },
      ),
  );
  server.registerPrompt("test_prompt_with_image", { description: "Embeds an image" }, () =>
    messages(
      { type: "image", data: samples.png, mimeType: "image/png" },
      { type: "text", text: "Please analyze the image above." },
    ),
  );
  server.registerPrompt(
    "test_input_required_result_prompt",
    { description: "Asks for its context" },
    ({ mcpReq }) => {
      const given = acceptedContent(mcpReq.inputResponses, "user_context", context);
      if (given) return messages({ type: "text", text: `In the context of ${given.context}` });
      const user_context = inputRequired.elicit({
        message: "What context should the prompt use?",
        requestedSchema: context,
      });
      return inputRequired({ inputRequests: { user_context } });
    },
  );
}

function messages(...content: ContentBlock[]): GetPromptResult {
  return { messages: content.map((block) => ({ role: "user", content: block })) };
}
