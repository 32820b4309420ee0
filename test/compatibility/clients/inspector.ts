import type { Client } from "../catalog.ts";

export default {
  title: "MCP Inspector",
  habit: "Requests from a browser: with Origin, possibly an empty scope; a native application",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/inspector/blob/86d5f58ec8c369839b8237455ad8b1c17b15a984/core/auth/providers.ts",
      date: "2026-08-19",
    },
  ],
  looked: "2026-11-29",
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
    application_type: "native",
  },
  headers: { origin: "http://localhost:6274" },
  token: { parameters: { resource: "$resource" }, headers: { origin: "http://localhost:6274" } },
} satisfies Client as Client;
