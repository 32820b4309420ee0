import type { Upstream } from "../zoo.ts";

export default {
  title: "Fireflies.ai",
  habit: "Scopes of identity only, named in the challenge",
  sources: [
    { url: "https://docs.fireflies.ai/", date: "2026-09-30" },
    { url: "https://api.fireflies.ai/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://api.fireflies.ai/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer scope="email profile", resource_metadata="https://api.fireflies.ai/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://api.fireflies.ai/.well-known/oauth-protected-resource/mcp": {
      resource: "https://api.fireflies.ai/mcp",
      authorization_servers: ["https://api.fireflies.ai/"],
      scopes_supported: ["profile", "email"],
    },
    "https://api.fireflies.ai/.well-known/oauth-authorization-server": {
      issuer: "https://api.fireflies.ai/",
      authorization_endpoint: "https://api.fireflies.ai/authorize",
      token_endpoint: "https://api.fireflies.ai/token",
      registration_endpoint: "https://api.fireflies.ai/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
