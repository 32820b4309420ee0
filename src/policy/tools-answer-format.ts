/**
 * How a response that may list tools is to be filtered: `json` (buffer it, `filterToolsJson`), `event_stream`
 * (`createToolsStreamFilter`), `none` (it lists nothing), `unreadable` (refuse it: it might list tools, and we cannot tell).
 *
 * @param headers the upstream's response headers, names in lower case.
 */
export function toolsAnswerFormat(
  status: number,
  headers: Readonly<Record<string, string | undefined>>,
): "json" | "event_stream" | "none" | "unreadable" {
  const type = headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase();
  const empty = status === 202 || status === 204 || headers["content-length"] === "0";
  if (status < 200 || status > 299 || empty) return "none";
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity") return "unreadable";
  if (type === "application/json") return "json";
  return type === "text/event-stream" ? "event_stream" : "unreadable";
}
