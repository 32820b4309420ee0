import type { Upstream } from "../zoo.ts";

export default {
  title: "HubSpot",
  habit: "No registration; the secret in the body only; the resource is the origin",
  sources: [
    { url: "https://developers.hubspot.com/mcp", date: "2026-09-30" },
    { url: "https://mcp.hubspot.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.hubspot.com/anthropic",
  settings: { upstream_oauth2: { client_id: "hubspot-connector", client_secret: "hubspot-secret" } },
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
    },
    "https://mcp.hubspot.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.hubspot.com",
      authorization_endpoint: "https://mcp.hubspot.com/oauth/authorize/user",
      token_endpoint: "https://mcp.hubspot.com/oauth/v3/token",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
    },
  },
} satisfies Upstream as Upstream;
