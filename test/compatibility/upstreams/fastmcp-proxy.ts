import type { Upstream } from "../catalog.ts";

export default {
  title: "FastMCP's OAuth proxy",
  habit: "Registers every client as a public one, whatever it requests",
  sources: [
    {
      url: "https://github.com/PrefectHQ/fastmcp/blob/743ddffd0/fastmcp_slim/fastmcp/server/auth/oauth_proxy/proxy.py",
      date: "2026-08-21",
    },
  ],
  looked: "2026-11-29",
  to: "https://fastmcp.example.net/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication required", resource_metadata="https://fastmcp.example.net/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://fastmcp.example.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://fastmcp.example.net/mcp",
      authorization_servers: ["https://fastmcp.example.net/"],
      scopes_supported: ["openid"],
    },
    "https://fastmcp.example.net/.well-known/oauth-authorization-server": {
      issuer: "https://fastmcp.example.net/",
      authorization_endpoint: "https://fastmcp.example.net/authorize",
      token_endpoint: "https://fastmcp.example.net/token",
      registration_endpoint: "https://fastmcp.example.net/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  registration: {
    body: {
      token_endpoint_auth_method: "none",
      client_secret: undefined,
      client_secret_expires_at: undefined,
    },
  },
} satisfies Upstream as Upstream;
