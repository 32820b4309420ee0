import { arrayOf, isObject, type JsonObject } from "./json.ts";
import { type Naming, outerName } from "./names.ts";
import { outerUri } from "./uris.ts";

/** Where a tool's `_meta` names the resource of its user interface: MCP Apps, an earlier form. */
const earlierUiReference = "ui/resourceUri";

function withUri(naming: Naming, value: JsonObject, field: "uri" | "uriTemplate" = "uri"): JsonObject {
  const uri = value[field];
  return typeof uri === "string" ? { ...value, [field]: outerUri(naming, uri) } : value;
}

function withUiReference(naming: Naming, meta: JsonObject): JsonObject {
  const earlier = meta[earlierUiReference];
  const { ui } = meta;
  return {
    ...meta,
    ...(isObject(ui) && typeof ui.resourceUri === "string"
      ? { ui: { ...ui, resourceUri: outerUri(naming, ui.resourceUri) } }
      : {}),
    ...(typeof earlier === "string" ? { [earlierUiReference]: outerUri(naming, earlier) } : {}),
  };
}

function withName(naming: Naming, item: JsonObject): JsonObject {
  return typeof item.name === "string" ? { ...item, name: outerName(naming, item.name) } : item;
}

/** Resource links and embedded resources in the content of a tool's result, a prompt or a sampling message. */
function content(naming: Naming, block: unknown): unknown {
  if (Array.isArray(block)) return block.map((one) => content(naming, one));
  if (!isObject(block)) return block;
  if (block.type === "resource_link") return withUri(naming, block);
  if (block.type === "resource" && isObject(block.resource))
    return { ...block, resource: withUri(naming, block.resource) };
  return block;
}

/** What members send, with names and URIs as clients of the aggregated route know them. Everything else stays as it is. */
export const rewritten = {
  tool(naming: Naming, tool: JsonObject): JsonObject {
    const named = withName(naming, tool);
    return isObject(tool._meta) ? { ...named, _meta: withUiReference(naming, tool._meta) } : named;
  },
  prompt: withName,
  resource: (naming: Naming, resource: JsonObject) => withUri(naming, resource),
  template: (naming: Naming, template: JsonObject) => withUri(naming, template, "uriTemplate"),
  toolResult: (naming: Naming, result: JsonObject): JsonObject =>
    Array.isArray(result.content) ? { ...result, content: content(naming, result.content) } : result,
  promptResult: (naming: Naming, result: JsonObject): JsonObject =>
    Array.isArray(result.messages)
      ? {
          ...result,
          messages: result.messages.map((message) =>
            isObject(message) ? { ...message, content: content(naming, message.content) } : message,
          ),
        }
      : result,
  readResult: (naming: Naming, result: JsonObject): JsonObject =>
    Array.isArray(result.contents)
      ? {
          ...result,
          contents: arrayOf(result.contents).map((one) => (isObject(one) ? withUri(naming, one) : one)),
        }
      : result,
  /** `notifications/resources/updated`. */
  updated: (naming: Naming, params: JsonObject) => withUri(naming, params),
};
