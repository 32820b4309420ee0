import type { Upstream } from "../catalog.ts";

export default {
  title: "FastMCP of 2025 with a remote authorization server (WorkOS AuthKit)",
  habit:
    "The resource metadata names the base URL with a slash, not the endpoint; another company's server registers clients, with or without secrets",
  sources: [
    { url: "https://github.com/PrefectHQ/fastmcp/issues/1348", date: "2025-08-03" },
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/granola.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://fastmcp-remote.example.net/mcp/",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication required", resource_metadata="https://fastmcp-remote.example.net/.well-known/oauth-protected-resource"',
    },
    body: { error: "invalid_token", error_description: "Authentication required" },
  },
  documents: {
    "https://fastmcp-remote.example.net/.well-known/oauth-protected-resource": {
      resource: "https://fastmcp-remote.example.net/",
      authorization_servers: ["https://acme.authkit.app/"],
      scopes_supported: [],
      bearer_methods_supported: ["header"],
    },
    "https://acme.authkit.app/.well-known/oauth-authorization-server": {
      issuer: "https://acme.authkit.app",
      authorization_endpoint: "https://acme.authkit.app/oauth2/authorize",
      token_endpoint: "https://acme.authkit.app/oauth2/token",
      registration_endpoint: "https://acme.authkit.app/oauth2/register",
      introspection_endpoint: "https://acme.authkit.app/oauth2/introspection",
      jwks_uri: "https://acme.authkit.app/oauth2/jwks",
      scopes_supported: ["email", "offline_access", "openid", "profile"],
      response_modes_supported: ["query"],
      response_types_supported: ["code"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
      ],
      token_endpoint_auth_methods_supported: ["none", "client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
