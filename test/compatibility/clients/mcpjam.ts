import type { Client } from "../catalog.ts";

export default {
  title: "MCPJam",
  habit: "Its name contains the server's; sends resource even with the revision that does not define it",
  sources: [
    {
      url: "https://github.com/MCPJam/inspector/blob/6d550c02cf7461f504099cc5116f651b61ae3dd2/mcpjam-inspector/client/src/lib/oauth/mcp-oauth.ts",
      date: "2026-08-22",
    },
  ],
  looked: "2026-11-29",
  registers: {
    client_name: "MCPJam - files",
    redirect_uris: ["http://localhost:6274/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    client_uri: "https://github.com/mcpjam/inspector",
    logo_uri: "https://www.mcpjam.com/mcp_jam_2row.png",
  },
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
} satisfies Client as Client;
