import type { Client } from "../catalog.ts";

export default {
  title: "mcp-remote 0.1.38",
  habit: "Software id and version; scopes of the resource's metadata at registration, too",
  sources: [
    {
      url: "https://github.com/geelen/mcp-remote/blob/d26e5a8/src/lib/node-oauth-client-provider.ts",
      date: "2026-08-21",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "MCP CLI Proxy",
    redirect_uris: ["http://localhost:3334/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    software_version: "0.1.38",
    scope: "mcp",
    client_uri: "https://github.com/geelen/mcp-remote",
    software_id: "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
  },
  authorize: { state: "1f0e", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
