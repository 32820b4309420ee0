import type { Client } from "../catalog.ts";

export default {
  title: "Python SDK",
  habit: "Uses the method in the registration response, and repeats its id in the body in addition to Basic",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/python-sdk/blob/57394b054/src/mcp/client/auth/oauth2.py",
      date: "2026-08-20",
    },
  ],
  looked: "2026-11-28",
  registers: {
    client_name: "Simple Auth Client",
    redirect_uris: ["http://localhost:3030/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    scope: "mcp",
  },
  token: { method: "client_secret_basic", repeatsClientId: true, parameters: { resource: "$resource" } },
  authorize: { state: "s", scope: "mcp", resource: "$resource" },
  discoveryHeaders: { "mcp-protocol-version": "2025-11-25" },
  discovers: ["challenge", "resource-path", "resource-root"],
} satisfies Client as Client;
