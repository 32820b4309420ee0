import type { Upstream } from "../zoo.ts";

export default {
  title: "Jam",
  habit: "Scopes in the challenge; more in the server's metadata, which are not asked for",
  sources: [
    { url: "https://jam.dev/docs/mcp", date: "2026-09-30" },
    { url: "https://api.jam.dev/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.jam.dev/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.jam.dev/.well-known/oauth-protected-resource", scope="mcp:read mcp:write"',
    },
    body: { error: "invalid_token", error_description: "Access token is missing or invalid" },
  },
  documents: {
    "https://mcp.jam.dev/.well-known/oauth-protected-resource": {
      resource: "https://mcp.jam.dev/mcp",
      authorization_servers: ["https://api.jam.dev"],
    },
    "https://api.jam.dev/.well-known/oauth-authorization-server": {
      issuer: "https://api.jam.dev",
      authorization_endpoint: "https://api.jam.dev/oauth/authorize",
      token_endpoint: "https://api.jam.dev/oauth/token",
      registration_endpoint: "https://api.jam.dev/oauth/register",
      token_endpoint_auth_methods_supported: ["none", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["mcp:read", "mcp:write", "cli:read", "cli:write"],
      revocation_endpoint: "https://api.jam.dev/oauth/revoke",
    },
  },
  authorization: { wants: { scope: "mcp:read mcp:write" } },
} satisfies Upstream as Upstream;
