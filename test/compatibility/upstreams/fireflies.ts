import type { Upstream } from "../catalog.ts";

export default {
  title: "Fireflies.ai",
  habit: "Identity scopes only, named in the challenge; sends iss",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/fireflies.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/fireflies/blob/18073cea5daddec251eaade785c410150912fb75/well-known/fireflies-api-oauth-protected-resource.json",
      date: "2026-08-14",
    },
  ],
  looked: "2026-11-29",
  to: "https://api.fireflies.ai/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Missing Authorization header", scope="email profile", resource_metadata="https://api.fireflies.ai/.well-known/oauth-protected-resource/mcp"',
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
      revocation_endpoint: "https://api.fireflies.ai/revoke",
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["profile", "email"],
      authorization_response_iss_parameter_supported: true,
    },
  },
} satisfies Upstream as Upstream;
