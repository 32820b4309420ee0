import type { Upstream } from "../catalog.ts";

export default {
  title: "GitLab.com",
  habit:
    "Registers public clients for one scope, whatever they request, under another name; the token response has created_at; tokens expire after two hours",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/gitlab.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/gitlabhq/gitlabhq/blob/017a6c129d6a9e4ad9fec792cd84f88641d7dbfe/app/controllers/oauth/dynamic_registrations_controller.rb",
      date: "2026-11-29",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/packages/core/src/oauthMatrixData.ts",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-29",
  to: "https://gitlab.com/api/v4/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="GitLab", scope="mcp", resource_metadata="https://gitlab.com/.well-known/oauth-protected-resource/api/v4/mcp"',
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
      revocation_endpoint: "https://gitlab.com/oauth/revoke",
      introspection_endpoint: "https://gitlab.com/oauth/introspect",
      userinfo_endpoint: "https://gitlab.com/oauth/userinfo",
      jwks_uri: "https://gitlab.com/oauth/discovery/keys",
      scopes_supported: [
        "api",
        "read_api",
        "read_user",
        "mcp",
        "mcp_orbit",
        "openid",
        "profile",
        "email",
        "user:*",
      ],
      response_types_supported: ["code"],
      response_modes_supported: ["query", "fragment", "form_post"],
      grant_types_supported: ["authorization_code", "client_credentials", "device_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["RS256"],
      claim_types_supported: ["normal"],
      code_challenge_methods_supported: ["plain", "S256"],
      registration_endpoint: "https://gitlab.com/oauth/register",
    },
  },
  registration: {
    body: {
      client_id_issued_at: 1764366000,
      token_endpoint_auth_method: "none",
      client_secret: undefined,
      client_secret_expires_at: undefined,
      response_types: undefined,
      grant_types: ["authorization_code"],
      require_pkce: true,
      client_name: "[Unverified Dynamic Application] x",
      scope: "mcp",
      dynamic: true,
    },
  },
  authorization: {
    wants: {
      scope: "mcp",
    },
  },
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
