import type { Client } from "../zoo.ts";

export default {
  title: "MCPJam",
  habit: "A name with the server's in it; resource even in the revision that knows none",
  sources: [{ url: "https://github.com/MCPJam/inspector", date: "2026-07-29" }],
  looked: "2026-11-28",
  registers: {
    client_name: "MCPJam - files",
    redirect_uris: ["http://localhost:6274/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
} satisfies Client as Client;
