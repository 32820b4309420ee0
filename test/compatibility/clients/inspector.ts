import type { Client } from "../zoo.ts";

export default {
  title: "MCP Inspector",
  habit: "A browser's requests: an Origin, a scope that may be empty",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/inspector/blob/main/client/src/lib/auth.ts",
      date: "2026-05",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25", origin: "http://localhost:6274" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "MCP Inspector",
    redirect_uris: ["http://localhost:6274/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    client_uri: "https://github.com/modelcontextprotocol/inspector",
    scope: "",
  },
  headers: { origin: "http://localhost:6274" },
  token: { parameters: { resource: "$resource" }, headers: { origin: "http://localhost:6274" } },
} satisfies Client as Client;
