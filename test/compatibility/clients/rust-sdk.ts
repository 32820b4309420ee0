import type { Client } from "../catalog.ts";

export default {
  title: "Rust SDK (rmcp)",
  habit: "Native and public; uses an old protocol version at discovery",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/rust-sdk/blob/4a738b9d/crates/rmcp/src/transport/auth.rs",
      date: "2026-08-20",
    },
  ],
  looked: "2026-11-28",
  discoveryHeaders: { "mcp-protocol-version": "2024-11-05" },
  discovers: ["challenge", "resource-path", "resource-root"],
  metadata: ["oauth-authorization-server", "openid-configuration"],
  registers: {
    client_name: "MCP Client",
    redirect_uris: ["http://127.0.0.1:8080/callback"],
    token_endpoint_auth_method: "none",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    scope: "mcp",
    application_type: "native",
  },
  authorize: { state: "s", scope: "mcp", resource: "$resource" },
} satisfies Client as Client;
