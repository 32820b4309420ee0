import type { Upstream } from "../catalog.ts";

export default {
  title: "PagerDuty",
  habit:
    "The MCP host serves metadata for endpoints on other hosts; non-standard grant types and response modes; confidential clients by hand",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/pagerduty-mcp.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.pagerduty.com/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "pagerduty-app",
      client_secret: "pagerduty-secret",
      scopes: ["incidents.read", "services.read"],
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication required: the token is invalid or has expired.", resource_metadata="https://mcp.pagerduty.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.pagerduty.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.pagerduty.com/mcp",
      authorization_servers: ["https://mcp.pagerduty.com/"],
      scopes_supported: ["incidents.read", "services.read", "none", "openid", "write", "read"],
      bearer_methods_supported: ["header"],
      resource_name: "PagerDuty MCP Server",
    },
    "https://mcp.pagerduty.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.pagerduty.com/",
      authorization_endpoint: "https://app.pagerduty.com/global/oauth/authorize",
      token_endpoint: "https://app.pagerduty.com/global/oauth/token",
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      response_modes_supported: ["query.jwt", "jwt", "form_post", "query", "form_post.jwt"],
      response_types_supported: ["code"],
      grant_types_supported: [
        "refresh_token",
        "client_credentials",
        "https://curity.se/grant/accesstoken",
        "authorization_code",
        "https://curity.se/grant/assisted-token",
      ],
      userinfo_endpoint: "https://app.pagerduty.com/global/oauth/userinfo",
      code_challenge_methods_supported: ["S256", "plain"],
      scopes_supported: ["incidents.read", "services.read", "none", "openid", "write", "read"],
      revocation_endpoint: "https://app.pagerduty.com/global/oauth/revoke",
      jwks_uri: "https://app.pagerduty.com/global/oauth/anonymous/jwks",
    },
  },
} satisfies Upstream as Upstream;
