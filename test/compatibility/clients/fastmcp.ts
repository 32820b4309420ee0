import type { Client } from "../catalog.ts";

export default {
  title: "FastMCP client",
  habit: "An empty scope and no authentication method, on an ephemeral port",
  sources: [
    {
      url: "https://github.com/PrefectHQ/fastmcp/blob/743ddffd0/fastmcp_slim/fastmcp/client/auth/oauth.py",
      date: "2026-08-21",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "FastMCP Client",
    redirect_uris: ["http://localhost:52011/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    scope: "",
  },
  token: { method: "client_secret_basic", repeatsClientId: true, parameters: { resource: "$resource" } },
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
} satisfies Client as Client;
