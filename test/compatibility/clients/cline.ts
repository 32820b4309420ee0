import type { Client } from "../catalog.ts";

export default {
  title: "Cline",
  habit: "A callback with VS Code's URI scheme, with a hash of the server",
  sources: [
    {
      url: "https://github.com/cline/cline/blob/21cb8d2525/apps/vscode/src/services/mcp/McpOAuthManager.ts",
      date: "2026-08-22",
    },
  ],
  looked: "2026-11-29",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "Cline",
    redirect_uris: ["vscode://saoudrizwan.claude-dev/mcp-auth/callback/abc123"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  },
} satisfies Client as Client;
