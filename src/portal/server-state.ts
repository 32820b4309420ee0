import type { Route } from "../model/route.ts";
import type { UpstreamTokens } from "../upstream-token/upstream-tokens.ts";

/** One MCP server as somebody finds it now. */
export interface ServerState {
  readonly route: Route;
  /** Where MCP clients reach it. */
  readonly url: string;
  readonly state: Awaited<ReturnType<UpstreamTokens["connectionState"]>>["state"];
}
