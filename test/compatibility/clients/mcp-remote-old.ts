import type { Client } from "../catalog.ts";

export default {
  title: "mcp-remote 0.0.22",
  habit:
    "Supports neither resource metadata nor resource: expects the server to be its own authorization server; no state",
  sources: [
    {
      url: "https://github.com/geelen/mcp-remote/blob/v0.0.22/src/lib/node-oauth-client-provider.ts",
      date: "2025-04-16",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "MCP CLI Proxy",
    redirect_uris: ["http://127.0.0.1:3334/oauth/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    software_version: "0.0.22",
    client_uri: "https://github.com/geelen/mcp-remote",
    software_id: "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
  },
  discovers: ["server-root"],
  discoveryHeaders: { "mcp-protocol-version": "2025-03-26" },
  authorize: {},
  token: { parameters: {} },
  refresh: {},
  protocolVersion: "2025-03-26",
} satisfies Client as Client;
