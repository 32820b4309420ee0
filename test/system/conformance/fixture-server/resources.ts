import { type McpServer, ResourceTemplate } from "@modelcontextprotocol/server";
import { samples } from "./samples.ts";

/** A text, an image, a resource to watch, and a template; `resources/subscribe` is accepted, but nothing ever changes. */
export function resources(server: McpServer): void {
  const text = { description: "A constant text", mimeType: "text/plain" };
  server.registerResource("static-text", "test://static-text", text, ({ href }) => ({
    contents: [
      {
        uri: href,
        mimeType: text.mimeType,
        text: "This is the content of the static text resource.",
      },
    ],
  }));
  const picture = { description: "A red pixel", mimeType: "image/png" };
  server.registerResource("static-binary", "test://static-binary", picture, ({ href }) => ({
    contents: [{ uri: href, mimeType: picture.mimeType, blob: samples.png }],
  }));
  const watched = { description: "A text to subscribe to", mimeType: "text/plain" };
  server.registerResource("watched-resource", "test://watched-resource", watched, ({ href }) => ({
    contents: [{ uri: href, mimeType: watched.mimeType, text: "Nothing happened yet." }],
  }));
  server.registerResource(
    "template-data",
    new ResourceTemplate("test://template/{id}/data", { list: undefined }),
    { description: "Data for any id", mimeType: "application/json" },
    ({ href }, { id }) => ({
      contents: [
        {
          uri: href,
          mimeType: "application/json",
          text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }),
        },
      ],
    }),
  );
  server.server.setRequestHandler("resources/subscribe", () => ({}));
  server.server.setRequestHandler("resources/unsubscribe", () => ({}));
}
