import type { Upstream } from "../zoo.ts";

export default {
  title: "Zapier",
  habit: "A challenge and no resource metadata: the server is its own authorization server",
  sources: [
    { url: "https://mcp.zapier.com/.well-known/oauth-authorization-server", date: "2026-07-19" },
    { url: "https://docs.zapier.com/mcp/overview/how-connections-work", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.zapier.com/api/mcp/mcp",
  unauthorized: {
    status: 401,
    headers: { "www-authenticate": 'Bearer realm="Zapier MCP", error="invalid_token"' },
  },
  documents: {
    "https://mcp.zapier.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.zapier.com",
      authorization_endpoint: "https://mcp.zapier.com/oauth/authorize",
      token_endpoint: "https://mcp.zapier.com/api/v1/oauth/token",
      registration_endpoint: "https://mcp.zapier.com/api/v1/oauth/register",
      token_endpoint_auth_methods_supported: ["none", "client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["plain", "S256"],
      scopes_supported: ["openid", "profile", "email"],
      userinfo_endpoint: "https://mcp.zapier.com/api/v1/oauth/userinfo",
      revocation_endpoint: "https://mcp.zapier.com/api/v1/oauth/revoke",
    },
  },
} satisfies Upstream as Upstream;
