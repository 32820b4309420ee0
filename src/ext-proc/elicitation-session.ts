import type {
  ExternalProcessorDeps,
  MetadataValue,
  ProcessingRequest,
  UpstreamResponse,
} from "./protocol.ts";

/** The namespace of the MCP filter's dynamic metadata, and where an `initialize` declares URL mode elicitation (MCP 2025-11-25). */
const mcpNamespace = "envoy.filters.http.mcp";
const elicitationOfClient = ["params", "capabilities", "elicitation", "url"];

/** Whether the request declares URL mode elicitation, as Envoy's MCP filter has read it. */
function canElicit(message: ProcessingRequest): boolean {
  let value: MetadataValue | undefined = {
    structValue: message.metadataContext?.filterMetadata?.[mcpNamespace],
  };
  for (const name of elicitationOfClient) value = value?.structValue?.fields?.[name];
  return value !== undefined;
}

/**
 * If this response starts a session whose client can do URL mode elicitation, remembers that calls of it may ask for consent. The
 * response does not wait: until the row is written, and if it cannot be, such calls are challenged.
 *
 * @param message as received; not proven, and only decides how later calls of the session are answered
 */
export function recordSession(
  { store, logger }: Pick<ExternalProcessorDeps, "store" | "logger">,
  message: ProcessingRequest,
  { status, headers, metadata }: UpstreamResponse,
  userId: string,
): void {
  const sessionId = headers["mcp-session-id"];
  if (!metadata.newSession || status >= 300 || sessionId === undefined || !canElicit(message)) return;
  const { route: routeId, requestId } = metadata;
  store.elicitationSessions
    .record({ userId, routeId, sessionId })
    .catch((error: Error) =>
      logger.warn({ requestId, route: routeId, reason: error.message }, "a session was not recorded"),
    );
}
