import type { Upstream } from "../catalog.ts";

export default {
  title: "Neon",
  habit: "All endpoints under /api; scopes only in the server's metadata, next to a non-standard member",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/neon.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.neon.tech/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="No authorization provided", resource_metadata="https://mcp.neon.tech/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.neon.tech/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.neon.tech/mcp",
      authorization_servers: ["https://mcp.neon.tech"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.neon.tech/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.neon.tech",
      authorization_endpoint: "https://mcp.neon.tech/api/authorize",
      token_endpoint: "https://mcp.neon.tech/api/token",
      registration_endpoint: "https://mcp.neon.tech/api/register",
      revocation_endpoint: "https://mcp.neon.tech/api/revoke",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic", "none"],
      registration_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic", "none"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["read", "write"],
      "x-neon-scope-categories": ["projects", "branches", "endpoints"],
    },
  },
} satisfies Upstream as Upstream;
