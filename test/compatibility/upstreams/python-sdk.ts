import type { Upstream } from "../catalog.ts";

export default {
  title: "Python SDK's own authorization server",
  habit:
    "Lists post before Basic, and requires the client id in the body; clients have only the scopes that they registered",
  sources: [
    {
      url: "https://github.com/modelcontextprotocol/python-sdk/blob/57394b054/src/mcp/server/auth/routes.py",
      date: "2026-08-20",
    },
    {
      url: "https://github.com/modelcontextprotocol/python-sdk/blob/57394b054/src/mcp/server/auth/handlers/token.py",
      date: "2026-08-20",
    },
  ],
  looked: "2026-11-28",
  to: "https://python-sdk.example.net/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication required", resource_metadata="https://python-sdk.example.net/.well-known/oauth-protected-resource/mcp"',
    },
    body: { error: "invalid_token", error_description: "Authentication required" },
  },
  documents: {
    "https://python-sdk.example.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://python-sdk.example.net/mcp",
      authorization_servers: ["https://python-sdk.example.net/"],
      scopes_supported: ["user"],
    },
    "https://python-sdk.example.net/.well-known/oauth-authorization-server": {
      issuer: "https://python-sdk.example.net/",
      authorization_endpoint: "https://python-sdk.example.net/authorize",
      token_endpoint: "https://python-sdk.example.net/token",
      registration_endpoint: "https://python-sdk.example.net/register",
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["user"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
  registration: { wants: { scope: "user" } },
  token: { wants: { client_id: "*" } },
} satisfies Upstream as Upstream;
