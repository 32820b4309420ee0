import type { Upstream } from "../catalog.ts";

export default {
  title: "HubSpot",
  habit: "No registration; the secret in the body only; the resource is the origin; empty scope lists",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/hubspot.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/hubspot/blob/8c51d6363d46e19fa54f25ca98dedcb08192c0f9/well-known/hubspot-oauth-authorization-server.json",
      date: "2026-08-13",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.hubspot.com/anthropic",
  settings: {
    upstream_oauth2: {
      client_id: "hubspot-connector",
      client_secret: "hubspot-secret",
    },
  },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.hubspot.com/.well-known/oauth-protected-resource"',
    },
    body: "",
  },
  documents: {
    "https://mcp.hubspot.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.hubspot.com",
      authorization_servers: ["https://mcp.hubspot.com"],
      scopes_supported: [],
    },
    "https://mcp.hubspot.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.hubspot.com",
      authorization_endpoint: "https://mcp.hubspot.com/oauth/authorize/user",
      token_endpoint: "https://mcp.hubspot.com/oauth/v3/token",
      introspection_endpoint: "https://mcp.hubspot.com/oauth/v3/token/introspect",
      scopes_supported: [],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
    },
  },
} satisfies Upstream as Upstream;
