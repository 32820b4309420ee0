import type { Client } from "../catalog.ts";

export default {
  title: "opencode",
  habit: "A fixed loopback port; a client_uri",
  sources: [
    {
      url: "https://github.com/anomalyco/opencode/blob/0a8a0ed8bb798343e09cf7fb1bad0a08ee573b98/packages/opencode/src/mcp/oauth-provider.ts",
      date: "2026-08",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "OpenCode",
    redirect_uris: ["http://127.0.0.1:19876/mcp/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    client_uri: "https://opencode.ai",
  },
  authorize: { state: "00ff", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
