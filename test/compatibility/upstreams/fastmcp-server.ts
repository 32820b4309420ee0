import type { Upstream } from "../catalog.ts";

export default {
  title: "FastMCP's full OAuth server",
  habit:
    "The authorization endpoint rejects scopes that were not registered; issues a secret unless the client requests none",
  sources: [
    {
      url: "https://github.com/PrefectHQ/fastmcp/blob/93ce21be60ee0b14c5683e6cc300a2dfed23137d/src/fastmcp/server/auth/auth.py",
      date: "2026-04-13",
    },
    {
      url: "https://github.com/modelcontextprotocol/python-sdk/blob/57394b054/src/mcp/server/auth/handlers/register.py",
      date: "2026-08-20",
    },
  ],
  looked: "2026-11-29",
  to: "https://fastmcp-full.example.net/api/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication required", resource_metadata="https://fastmcp-full.example.net/.well-known/oauth-protected-resource/api/mcp"',
    },
    body: { error: "invalid_token", error_description: "Authentication required" },
  },
  documents: {
    "https://fastmcp-full.example.net/.well-known/oauth-protected-resource/api/mcp": {
      resource: "https://fastmcp-full.example.net/api/mcp",
      authorization_servers: ["https://fastmcp-full.example.net/api"],
      scopes_supported: ["read", "write"],
      bearer_methods_supported: ["header"],
    },
    "https://fastmcp-full.example.net/.well-known/oauth-authorization-server/api": {
      issuer: "https://fastmcp-full.example.net/api",
      authorization_endpoint: "https://fastmcp-full.example.net/api/authorize",
      token_endpoint: "https://fastmcp-full.example.net/api/token",
      registration_endpoint: "https://fastmcp-full.example.net/api/register",
      revocation_endpoint: "https://fastmcp-full.example.net/api/revoke",
      scopes_supported: ["read", "write"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      revocation_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  registration: { wants: { scope: "read write" } },
  authorization: { wants: { scope: "read write" } },
  token: {
    wants: { client_id: "*" },
    refused: {
      status: 400,
      body: { error: "invalid_grant", error_description: "refresh token does not exist" },
    },
  },
} satisfies Upstream as Upstream;
