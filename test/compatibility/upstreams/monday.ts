import type { Upstream } from "../catalog.ts";

export default {
  title: "monday.com",
  habit:
    "An issuer with a path; the MCP host's well-known location redirects to another host; only clients with secrets; sends iss; no scopes",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/monday.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/monday.as3.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.monday.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.monday.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.monday.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.monday.com/mcp",
      authorization_servers: ["https://auth.monday.com/mcp"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.monday.com/.well-known/oauth-authorization-server": {
      answer: {
        status: 302,
        headers: {
          location: "https://auth.monday.com/.well-known/oauth-authorization-server",
        },
        body: "",
      },
    },
    "https://auth.monday.com/.well-known/oauth-authorization-server/mcp": {
      issuer: "https://auth.monday.com/mcp",
      authorization_endpoint: "https://auth.monday.com/oauth2/authorize",
      token_endpoint: "https://auth.monday.com/oauth_ms/oauth/token",
      registration_endpoint: "https://auth.monday.com/oauth_ms/oauth/register",
      revocation_endpoint: "https://auth.monday.com/oauth_ms/oauth/revoke",
      token_migration_endpoint: "https://auth.monday.com/oauth_ms/oauth/migrate",
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      code_challenge_methods_supported: ["S256"],
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      authorization_response_iss_parameter_supported: true,
    },
  },
} satisfies Upstream as Upstream;
