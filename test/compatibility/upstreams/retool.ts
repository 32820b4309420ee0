import type { Upstream } from "../zoo.ts";

export default {
  title: "Retool",
  habit:
    "A server per organization; it grants the scopes that the person's role has, and not all that were asked for",
  sources: [
    { url: "https://docs.retool.com/org-users/guides/mcp", date: "2026-11-29" },
    { url: "https://docs.retool.com/org-users/reference/mcp-tools", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://acme.retool.com/mcp",
  documents: {
    "https://acme.retool.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://acme.retool.com/mcp",
      authorization_servers: ["https://acme.retool.com"],
      scopes_supported: ["mcp:read", "mcp:write", "mcp:admin"],
    },
    "https://acme.retool.com/.well-known/oauth-authorization-server": {
      issuer: "https://acme.retool.com",
      authorization_endpoint: "https://acme.retool.com/oauth2/authorize",
      token_endpoint: "https://acme.retool.com/oauth2/token",
      registration_endpoint: "https://acme.retool.com/oauth2/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
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
  guessed: ["documents (endpoints)"],
} satisfies Upstream as Upstream;
