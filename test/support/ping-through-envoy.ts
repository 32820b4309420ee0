import type { Stack } from "../../dev/demo/stack.ts";
import { type RawAnswer, throughEnvoy } from "./through-envoy.ts";

const ping = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });

/** An MCP `ping` to `url` from a client with `token`. */
export function pingThroughEnvoy(
  stack: Pick<Stack, "envoyPort" | "ca">,
  url: string,
  token: string,
): Promise<RawAnswer> {
  return throughEnvoy(stack, {
    url,
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      authorization: `Bearer ${token}`,
    },
    body: ping,
  });
}
