import type { Client } from "../catalog.ts";

export default {
  title: "Dify",
  habit: "No resource parameter at any step; identifies itself at discovery",
  sources: [
    {
      url: "https://github.com/langgenius/dify/blob/014b9a16aa3c2ec1ebc1032d87b00bfe70c91437/api/core/mcp/auth/auth_flow.py",
      date: "2026-09",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Dify",
    redirect_uris: ["https://dify.example.net/console/api/mcp/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    client_uri: "https://github.com/langgenius/dify",
  },
  discoveryHeaders: { "mcp-protocol-version": "2025-06-18", "user-agent": "Dify" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  authorize: { state: "s", scope: "mcp" },
  token: { parameters: {} },
  refresh: {},
  guessed: ["registers"],
  personSaysServer: true,
} satisfies Client as Client;
