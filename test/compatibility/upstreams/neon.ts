import type { Upstream } from "../zoo.ts";

export default {
  title: "Neon",
  habit: "All endpoints under /api",
  sources: [
    { url: "https://neon.com/docs/ai/neon-mcp-server", date: "2026-09-30" },
    { url: "https://mcp.neon.tech/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.neon.tech/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.neon.tech/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.neon.tech/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.neon.tech/mcp",
      authorization_servers: ["https://mcp.neon.tech"],
      scopes_supported: ["read", "write"],
    },
    "https://mcp.neon.tech/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.neon.tech",
      authorization_endpoint: "https://mcp.neon.tech/api/authorize",
      token_endpoint: "https://mcp.neon.tech/api/token",
      registration_endpoint: "https://mcp.neon.tech/api/register",
      token_endpoint_auth_methods_supported: ["none", "client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://mcp.neon.tech/api/revoke",
    },
  },
} satisfies Upstream as Upstream;
