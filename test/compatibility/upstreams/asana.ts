import type { Upstream } from "../zoo.ts";

export default {
  title: "Asana (v2)",
  habit: "No registration; an app of one's own, without scopes; endpoints under /-/",
  sources: [
    { url: "https://developers.asana.com/docs/integrating-with-asanas-mcp-server", date: "2026-09-30" },
    { url: "https://app.asana.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.asana.com/v2/mcp",
  settings: { upstream_oauth2: { client_id: "1200000000000001", client_secret: "asana-secret" } },
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.asana.com/.well-known/oauth-protected-resource/v2/mcp"',
    },
  },
  documents: {
    "https://mcp.asana.com/.well-known/oauth-protected-resource/v2/mcp": {
      resource: "https://mcp.asana.com/v2/mcp",
      authorization_servers: ["https://app.asana.com"],
    },
    "https://app.asana.com/.well-known/oauth-authorization-server": {
      issuer: "https://app.asana.com",
      authorization_endpoint: "https://app.asana.com/-/oauth_authorize",
      token_endpoint: "https://app.asana.com/-/oauth_token",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
  authorization: { refuses: ["scope"] },
} satisfies Upstream as Upstream;
