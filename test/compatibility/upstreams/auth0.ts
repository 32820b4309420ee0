import type { Upstream } from "../catalog.ts";

export default {
  title: "Auth0",
  habit:
    "Ignores resource by default (a tenant setting), and uses audience; an issuer with a trailing slash; a refresh token for offline_access",
  sources: [
    { url: "https://github.com/danny-avila/LibreChat/issues/13401", date: "2026-11-29" },
    { url: "https://xmcp.dev/docs/integrations/auth0", date: "2026-11-29" },
    { url: "https://docs.skybridge.tech/api-reference/auth0-provider", date: "2026-11-29" },
  ],
  looked: "2026-11-29",
  to: "https://tools.auth0-customer.example/mcp",
  settings: {
    upstream_oauth2: { authorization_url_params: { audience: "https://tools.auth0-customer.example/mcp" } },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://tools.auth0-customer.example/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://tools.auth0-customer.example/.well-known/oauth-protected-resource": {
      resource: "https://tools.auth0-customer.example/mcp",
      authorization_servers: ["https://acme.us.auth0.com/"],
      scopes_supported: ["tool:search"],
    },
    "https://acme.us.auth0.com/.well-known/oauth-authorization-server": {
      issuer: "https://acme.us.auth0.com/",
      authorization_endpoint: "https://acme.us.auth0.com/authorize",
      token_endpoint: "https://acme.us.auth0.com/oauth/token",
      registration_endpoint: "https://acme.us.auth0.com/oidc/register",
      scopes_supported: ["openid", "profile", "offline_access", "email"],
      code_challenge_methods_supported: ["S256", "plain"],
      response_types_supported: ["code", "token", "id_token"],
      token_endpoint_auth_methods_supported: [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
      ],
      revocation_endpoint: "https://acme.us.auth0.com/oauth/revoke",
    },
  },
  authorization: {
    wants: { audience: "https://tools.auth0-customer.example/mcp", scope: "tool:search offline_access" },
  },
  guessed: ["documents (methods of Auth0's metadata)"],
} satisfies Upstream as Upstream;
