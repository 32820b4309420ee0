import type { Upstream } from "../catalog.ts";

export default {
  title: "Retool",
  habit: "Public clients; grants only the requested scopes that the user's role has",
  sources: [
    {
      url: "https://github.com/api-evangelist/retool/blob/549289884685e9373ae0b51ce23ce27355c009b7/well-known/retool-mcp-oauth-authorization-server.json",
      date: "2026-09-19",
    },
    {
      url: "https://github.com/api-evangelist/retool/blob/549289884685e9373ae0b51ce23ce27355c009b7/well-known/retool-mcp-oauth-protected-resource.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.retool.com/mcp",
  documents: {
    "https://mcp.retool.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.retool.com/mcp",
      authorization_servers: ["https://mcp.retool.com"],
      bearer_methods_supported: ["header"],
      scopes_supported: ["mcp:read", "mcp:write", "mcp:admin"],
      introspection_endpoint: "https://mcp.retool.com/api/oauth2/introspect",
    },
    "https://mcp.retool.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.retool.com",
      authorization_endpoint: "https://mcp.retool.com/auth/oauth2/authorize",
      token_endpoint: "https://mcp.retool.com/api/oauth2/token",
      device_authorization_endpoint: "https://mcp.retool.com/api/oauth2/device_authorization",
      registration_endpoint: "https://mcp.retool.com/api/oauth2/register",
      revocation_endpoint: "https://mcp.retool.com/api/oauth2/revoke",
      introspection_endpoint: "https://mcp.retool.com/api/oauth2/introspect",
      userinfo_endpoint: "https://mcp.retool.com/api/oauth2/userinfo",
      scopes_supported: ["mcp:read", "mcp:write", "mcp:admin", "openid", "email"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
      ],
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
      token_endpoint_auth_methods_supported: ["none"],
    },
  },
  token: {
    first: {
      access_token: "$access_token",
      token_type: "Bearer",
      expires_in: 3600,
      refresh_token: "$refresh_token",
      scope: "mcp:read",
    },
  },
  guessed: ["token.first.scope"],
} satisfies Upstream as Upstream;
