import type { Upstream } from "../zoo.ts";

export default {
  title: "Slack",
  habit:
    "Metadata of another issuer than the host asked; no registration; an hour's token without a refresh token",
  sources: [
    { url: "https://github.com/slackapi/slack-skills-plugin/issues/2", date: "2026-03-03" },
    { url: "https://github.com/microsoft/vscode/issues/293533", date: "2026-02-10" },
    { url: "https://docs.slack.dev/ai/slack-mcp-server/", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.slack.com/mcp",
  settings: {
    expected_issuer: "https://slack.com",
    upstream_oauth2: { client_id: "123456.789", client_secret: "slack-secret" },
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
      scopes_supported: ["search:read.public", "chat:write"],
      bearer_methods_supported: ["header", "form"],
      tls_client_certificate_bound_access_tokens: false,
    },
    "https://mcp.slack.com/.well-known/oauth-authorization-server": {
      issuer: "https://slack.com",
      authorization_endpoint: "https://slack.com/oauth/v2_user/authorize",
      token_endpoint: "https://slack.com/api/oauth.v2.user.access",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      scopes_supported: ["search:read.public", "chat:write"],
    },
  },
  token: {
    first: {
      ok: true,
      access_token: "$access_token",
      token_type: "user",
      expires_in: 3599,
      scope: "search:read.public,chat:write",
    },
    refreshes: false,
  },
} satisfies Upstream as Upstream;
