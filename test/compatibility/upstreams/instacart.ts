import type { Upstream } from "../zoo.ts";

export default {
  title: "Instacart",
  habit: "The authorization endpoint has a query of its own",
  sources: [
    { url: "https://fig-mcp.instacart.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://docs.instacart.com/developer_platform_api/guide/tutorials/mcp", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://fig-mcp.instacart.com/mcp",
  settings: { upstream_oauth2: { client_id: "instacart-connect", client_secret: "instacart-secret" } },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://fig-mcp.instacart.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://fig-mcp.instacart.com/.well-known/oauth-protected-resource": {
      resource: "https://fig-mcp.instacart.com",
      authorization_servers: ["https://fig-mcp.instacart.com"],
      scopes_supported: ["connect:fig_mcp"],
    },
    "https://fig-mcp.instacart.com/.well-known/oauth-authorization-server": {
      issuer: "https://fig-mcp.instacart.com",
      authorization_endpoint: "https://www.instacart.com/oauth/authorize?addr=1",
      token_endpoint: "https://connect.instacart.com/v2/oauth/token",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      grant_types_supported: ["authorization_code", "refresh_token", "client_credentials"],
    },
  },
} satisfies Upstream as Upstream;
