import type { Upstream } from "../catalog.ts";

export default {
  title: "Atlassian (v1)",
  habit:
    "A challenge without metadata, and no resource metadata: the server's origin is its own authorization server, with endpoints under /v1",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/atlassian-mcp-http.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/atlassian/atlassian-mcp-server/issues/148",
      date: "2026-07-29",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.atlassian.com/v1/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", error="invalid_token", error_description="Missing or invalid access token"',
    },
  },
  documents: {
    "https://mcp.atlassian.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.atlassian.com",
      authorization_endpoint: "https://mcp.atlassian.com/v1/authorize",
      token_endpoint: "https://mcp.atlassian.com/v1/token",
      registration_endpoint: "https://mcp.atlassian.com/v1/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.atlassian.com/v1/token",
      code_challenge_methods_supported: ["plain", "S256"],
    },
  },
} satisfies Upstream as Upstream;
