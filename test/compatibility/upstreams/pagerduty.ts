import type { Upstream } from "../zoo.ts";

export default {
  title: "PagerDuty",
  habit: "The MCP host serves the metadata of endpoints elsewhere; confidential clients by hand",
  sources: [
    { url: "https://docs.pagerduty.com/developer/oauth-functionality", date: "2026-09-30" },
    { url: "https://mcp.pagerduty.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
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
        'Bearer resource_metadata="https://mcp.pagerduty.com/.well-known/oauth-protected-resource/mcp"',
    },
    body: {
      error: "invalid_token",
      error_description: "Authentication required: the token is invalid or has expired.",
    },
  },
  documents: {
    "https://mcp.pagerduty.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.pagerduty.com/mcp",
      authorization_servers: ["https://mcp.pagerduty.com/"],
    },
    "https://mcp.pagerduty.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.pagerduty.com/",
      authorization_endpoint: "https://app.pagerduty.com/global/oauth/authorize",
      token_endpoint: "https://app.pagerduty.com/global/oauth/token",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://app.pagerduty.com/global/oauth/revoke",
    },
  },
  token: {
    first: {
      access_token: "$access_token",
      token_type: "bearer",
      expires_in: 2592000,
      refresh_token: "$refresh_token",
    },
  },
} satisfies Upstream as Upstream;
