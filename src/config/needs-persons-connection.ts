import type { Route } from "./route.ts";

/** Whether calls on this route go upstream with a connection that a person has made or signed in for. */
export function needsPersonsConnection({ mcp }: Route): boolean {
  return mcp.kind === "server" && (mcp.auth.type === "oauth" || mcp.auth.type === "id_jag");
}
