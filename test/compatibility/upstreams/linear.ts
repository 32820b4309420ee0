import type { Upstream } from "../zoo.ts";

export default {
  title: "Linear",
  habit: "Names scopes in the challenge; its server metadata repeats the resource",
  sources: [
    { url: "https://mcp.linear.app/.well-known/oauth-authorization-server", date: "2026-09-20" },
    { url: "https://mcp.linear.app/.well-known/oauth-protected-resource/mcp", date: "2026-09-20" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.linear.app/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.linear.app/.well-known/oauth-protected-resource/mcp", error="invalid_token", scope="read write"',
    },
  },
  documents: {
    "https://mcp.linear.app/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.linear.app/mcp",
      authorization_servers: ["https://mcp.linear.app"],
      scopes_supported: ["read", "write"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.linear.app/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.linear.app",
      authorization_endpoint: "https://mcp.linear.app/authorize",
      token_endpoint: "https://mcp.linear.app/token",
      registration_endpoint: "https://mcp.linear.app/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["read", "write", "openid", "email"],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      revocation_endpoint: "https://mcp.linear.app/token",
      client_id_metadata_document_supported: true,
      resource: "https://mcp.linear.app/mcp",
      resource_metadata: "https://mcp.linear.app/.well-known/oauth-protected-resource/mcp",
    },
  },
} satisfies Upstream as Upstream;
