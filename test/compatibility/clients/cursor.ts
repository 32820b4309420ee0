import type { Client } from "../catalog.ts";

export default {
  title: "Cursor",
  habit: "A callback with its own URI scheme, in addition to a web and a loopback one",
  sources: [
    {
      url: "https://docs.zuora.com/zuora-ai/zuora-mcp-server/zuora-mcp-server/configure-zuora-remote-mcp-server/redirect-uris-by-mcp-client",
      date: "2026-11-29",
    },
  ],
  looked: "2026-11-29",
  registers: {
    redirect_uris: [
      "cursor://anysphere.cursor-mcp/oauth/callback",
      "https://www.cursor.com/agents/mcp/oauth/callback",
      "http://localhost:8787/callback",
    ],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
} satisfies Client as Client;
