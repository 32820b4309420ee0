import type { Upstream } from "../catalog.ts";

export default {
  title: "Slack",
  habit:
    "Endpoints on another host than the issuer; no registration; the secret in the body; a token for an hour, without refresh token and type",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/slack-mcp.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/slack.as.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/slackapi/slack-skills-plugin/issues/2",
      date: "2026-03-03",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.slack.com/mcp",
  settings: {
    upstream_oauth2: {
      client_id: "123456.789",
      client_secret: "slack-secret",
      scopes: ["search:read.public", "chat:write"],
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.slack.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.slack.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.slack.com",
      authorization_servers: ["https://mcp.slack.com"],
      bearer_methods_supported: ["header", "form"],
      scopes_supported: [
        "canvases:read",
        "channels:history",
        "channels:read",
        "chat:write",
        "search:read.public",
        "users:read",
      ],
      resource_name: "Slack API",
      tls_client_certificate_bound_access_tokens: false,
    },
    "https://mcp.slack.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.slack.com",
      authorization_endpoint: "https://slack.com/oauth/v2_user/authorize",
      token_endpoint: "https://slack.com/api/oauth.v2.user.access",
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: [
        "canvases:read",
        "channels:history",
        "channels:read",
        "chat:write",
        "search:read.public",
        "users:read",
      ],
    },
  },
  token: {
    first: {
      access_token: "$access_token",
      expires_in: 3599,
    },
    refreshes: false,
  },
} satisfies Upstream as Upstream;
