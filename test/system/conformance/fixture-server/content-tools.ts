import type { ContentBlock, McpServer } from "@modelcontextprotocol/server";
import { samples } from "./samples.ts";
import { say } from "./say.ts";

const image: ContentBlock = { type: "image", data: samples.png, mimeType: "image/png" };

/** Tools that respond at once, with each kind of content; one of them with an error. */
export function contentTools(server: McpServer): void {
  server.registerTool("test_simple_text", { description: "Returns a text" }, () =>
    say("This is a simple text response for testing."),
  );
  server.registerTool("test_image_content", { description: "Returns an image" }, () => ({
    content: [image],
  }));
  server.registerTool("test_audio_content", { description: "Returns a sound" }, () => ({
    content: [{ type: "audio", data: samples.wav, mimeType: "audio/wav" }],
  }));
  server.registerTool("test_embedded_resource", { description: "Returns a resource" }, () => ({
    content: [
      {
        type: "resource",
        resource: {
          uri: "test://embedded-resource",
          mimeType: "text/plain",
          text: "This is an embedded resource content.",
        },
      },
    ],
  }));
  server.registerTool("test_multiple_content_types", { description: "Returns three kinds" }, () => ({
    content: [
      { type: "text", text: "Multiple content types test:" },
      image,
      {
        type: "resource",
        resource: {
          uri: "test://mixed-content-resource",
          mimeType: "application/json",
          text: JSON.stringify({ test: "data", value: 123 }),
        },
      },
    ],
  }));
  server.registerTool("test_error_handling", { description: "Always fails" }, () => {
    throw new Error("This tool intentionally returns an error for testing");
  });
}
