import type { Upstream } from "../catalog.ts";

export default {
  title: "Asana (v2)",
  habit:
    "The challenge names metadata at /v2, which is neither the origin nor the endpoint; no registration; OAuth endpoints under /-/",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/asana.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.asana.com/v2/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "1200000000000001",
      client_secret: "asana-secret",
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="Asana MCP", resource_metadata="https://mcp.asana.com/.well-known/oauth-protected-resource/v2", error="invalid_request", error_description="Authorization header is required for MCP V2 access"',
    },
  },
  documents: {
    "https://mcp.asana.com/.well-known/oauth-protected-resource/v2": {
      resource: "https://mcp.asana.com/v2/mcp",
      authorization_servers: ["https://app.asana.com"],
      scopes_supported: ["default"],
      bearer_methods_supported: ["header"],
      resource_name: "Asana MCP",
    },
    "https://app.asana.com/.well-known/oauth-authorization-server": {
      issuer: "https://app.asana.com",
      authorization_endpoint: "https://app.asana.com/-/oauth_authorize",
      token_endpoint: "https://app.asana.com/-/oauth_token",
      revocation_endpoint: "https://app.asana.com/-/oauth_revoke",
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
