import type { Client } from "../catalog.ts";

export default {
  title: "MCP Inspector, its guided flow",
  habit: "Two callbacks, and no application type",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/inspector/blob/eb76696d9748b07c79b07736ac5d26d922107725/client/src/lib/auth.ts",
      date: "2025-10-22",
    },
  ],
  looked: "2026-11-29",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "MCP Inspector",
    redirect_uris: ["http://localhost:6274/oauth/callback", "http://localhost:6274/oauth/callback/debug"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    client_uri: "https://github.com/modelcontextprotocol/inspector",
    scope: "mcp",
  },
  redirectUri: "http://localhost:6274/oauth/callback/debug",
  authorize: { state: "abcdef", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
