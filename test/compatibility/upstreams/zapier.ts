import type { Upstream } from "../catalog.ts";

export default {
  title: "Zapier",
  habit: "A challenge without resource metadata, which exists at the endpoint's path",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/zapier.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/zapier/blob/40ab6f057581bc149202d7d8d2e09d7d3b654d12/well-known/zapier-mcp-oauth-authorization-server.json",
      date: "2026-06-20",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.zapier.com/api/mcp/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate": 'Bearer realm="Zapier MCP", error="invalid_token"',
    },
  },
  documents: {
    "https://mcp.zapier.com/.well-known/oauth-protected-resource/api/mcp/mcp": {
      resource: "https://mcp.zapier.com/api/mcp/mcp",
      authorization_servers: ["https://mcp.zapier.com"],
      scopes_supported: ["openid", "profile", "email"],
    },
    "https://mcp.zapier.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.zapier.com",
      authorization_endpoint: "https://mcp.zapier.com/oauth/authorize",
      token_endpoint: "https://mcp.zapier.com/api/v1/oauth/token",
      registration_endpoint: "https://mcp.zapier.com/api/v1/oauth/register",
      revocation_endpoint: "https://mcp.zapier.com/api/v1/oauth/revoke",
      userinfo_endpoint: "https://mcp.zapier.com/api/v1/oauth/userinfo",
      scopes_supported: ["openid", "profile", "email"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["none", "client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["plain", "S256"],
    },
  },
} satisfies Upstream as Upstream;
