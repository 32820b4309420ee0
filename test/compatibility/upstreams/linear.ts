import type { Upstream } from "../catalog.ts";

export default {
  title: "Linear",
  habit: "Scopes in the challenge; its server metadata repeats the resource; sends iss",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/linear.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/idp/linear.prm.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.linear.app/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.linear.app/.well-known/oauth-protected-resource/mcp", scope="read write"',
    },
  },
  documents: {
    "https://mcp.linear.app/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.linear.app/mcp",
      authorization_servers: ["https://mcp.linear.app"],
      scopes_supported: ["read", "write"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.linear.app/.well-known/oauth-protected-resource": {
      resource: "https://mcp.linear.app",
      authorization_servers: ["https://mcp.linear.app"],
      scopes_supported: ["read", "write"],
      bearer_methods_supported: ["header"],
    },
    "https://mcp.linear.app/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.linear.app",
      authorization_endpoint: "https://mcp.linear.app/authorize",
      token_endpoint: "https://mcp.linear.app/token",
      registration_endpoint: "https://mcp.linear.app/register",
      scopes_supported: ["read", "write", "openid", "email"],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.linear.app/token",
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      client_id_metadata_document_supported: true,
      resource: "https://mcp.linear.app/mcp",
      resource_metadata: "https://mcp.linear.app/.well-known/oauth-protected-resource/mcp",
    },
  },
  authorization: {
    wants: {
      scope: "read write",
    },
  },
} satisfies Upstream as Upstream;
