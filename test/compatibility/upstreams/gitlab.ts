import type { Upstream } from "../zoo.ts";

export default {
  title: "GitLab.com",
  habit: "Registers public clients; the token carries created_at; two hours",
  sources: [
    { url: "https://docs.gitlab.com/user/model_context_protocol/mcp_server/", date: "2026-09-30" },
    { url: "https://docs.gitlab.com/api/oauth2/", date: "2026-09-30" },
    { url: "https://gitlab.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://gitlab.com/api/v4/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://gitlab.com/.well-known/oauth-protected-resource/api/v4/mcp"',
    },
  },
  documents: {
    "https://gitlab.com/.well-known/oauth-protected-resource/api/v4/mcp": {
      resource: "https://gitlab.com/api/v4/mcp",
      authorization_servers: ["https://gitlab.com"],
      scopes_supported: ["mcp"],
    },
    "https://gitlab.com/.well-known/oauth-authorization-server": {
      issuer: "https://gitlab.com",
      authorization_endpoint: "https://gitlab.com/oauth/authorize",
      token_endpoint: "https://gitlab.com/oauth/token",
      registration_endpoint: "https://gitlab.com/oauth/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["plain", "S256"],
      revocation_endpoint: "https://gitlab.com/oauth/revoke",
    },
  },
  registration: { body: { token_endpoint_auth_method: "none", client_secret: null } },
  token: {
    methods: ["none", "client_secret_post", "client_secret_basic"],
    first: {
      access_token: "$access_token",
      token_type: "Bearer",
      expires_in: 7200,
      refresh_token: "$refresh_token",
      scope: "mcp",
      created_at: 1764366000,
    },
  },
} satisfies Upstream as Upstream;
