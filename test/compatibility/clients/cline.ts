import type { Client } from "../zoo.ts";

export default {
  title: "Cline",
  habit: "A callback through VS Code's scheme, with a hash of the server in it",
  sources: [{ url: "https://github.com/cline/cline", date: "2026-03" }],
  looked: "2026-11-28",
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
  guessed: ["registers.client_name"],
} satisfies Client as Client;
