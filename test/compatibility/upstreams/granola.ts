import type { Upstream } from "../catalog.ts";

export default {
  title: "Granola",
  habit:
    "Another product as authorization server, on a separate host; the scopes of resource and server differ",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/granola.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.granola.ai/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authorization needed", resource_metadata="https://mcp.granola.ai/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.granola.ai/.well-known/oauth-protected-resource": {
      resource: "https://mcp.granola.ai/mcp",
      authorization_servers: ["https://mcp-auth.granola.ai"],
      bearer_methods_supported: ["header"],
      scopes_supported: ["mcp"],
    },
    "https://mcp-auth.granola.ai/.well-known/oauth-authorization-server": {
      issuer: "https://mcp-auth.granola.ai",
      authorization_endpoint: "https://mcp-auth.granola.ai/oauth2/authorize",
      token_endpoint: "https://mcp-auth.granola.ai/oauth2/token",
      registration_endpoint: "https://mcp-auth.granola.ai/oauth2/register",
      device_authorization_endpoint: "https://mcp-auth.granola.ai/oauth2/device_authorization",
      introspection_endpoint: "https://mcp-auth.granola.ai/oauth2/introspection",
      jwks_uri: "https://mcp-auth.granola.ai/oauth2/jwks",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
      token_endpoint_auth_methods_supported: [
        "none",
        "client_secret_post",
        "client_secret_basic",
        "private_key_jwt",
      ],
      code_challenge_methods_supported: ["S256"],
      scopes_supported: ["email", "offline_access", "openid", "profile"],
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
