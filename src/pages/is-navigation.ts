/**
 * Whether a person opens this in a browser: MCP clients accept JSON or an event stream. Some programs accept pages without wanting any.
 *
 * @param headers by name in lower case
 * @param takesForms whether a form that is posted counts, too; a browser says so by `Sec-Fetch-Mode`
 */
export function isNavigation(
  method: string,
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  takesForms: boolean,
): boolean {
  const mode = headers["sec-fetch-mode"];
  const isForm = takesForms && method === "POST" && mode !== undefined;
  if (method !== "GET" && method !== "HEAD" && !isForm) return false;
  const accept = String(headers.accept ?? "").toLowerCase();
  if (!accept.includes("text/html")) return false;
  if (mode !== undefined) return mode === "navigate";
  return !accept.includes("text/event-stream") && !accept.includes("application/json");
}
