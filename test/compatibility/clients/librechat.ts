import type { Client } from "../catalog.ts";

export default {
  title: "LibreChat",
  habit: "Prefers Basic; response types as the server lists them; resource only at the first step",
  sources: [
    {
      url: "https://github.com/danny-avila/LibreChat/blob/main/packages/api/src/mcp/oauth/handler.ts",
      date: "2026-03",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "LibreChat MCP Client",
    redirect_uris: ["https://chat.example.net/api/mcp/files/oauth/callback"],
    token_endpoint_auth_method: "client_secret_basic",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    scope: "mcp",
  },
  token: { method: "client_secret_basic", parameters: {} },
  refresh: { scope: "mcp" },
  authorize: { state: "user:files", scope: "mcp", resource: "$resource" },
  guessed: ["refresh"],
} satisfies Client as Client;
