import type { Upstream } from "../zoo.ts";

export default {
  title: "ClickUp",
  habit: "No refresh tokens: the person consents again when the token ends",
  sources: [{ url: "https://mcp.clickup.com/.well-known/oauth-authorization-server", date: "2026-09-30" }],
  looked: "2026-11-28",
  to: "https://mcp.clickup.com/mcp",
  documents: {
    "https://mcp.clickup.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.clickup.com/mcp",
      authorization_servers: ["https://mcp.clickup.com"],
      scopes_supported: ["read", "write"],
    },
    "https://mcp.clickup.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.clickup.com",
      authorization_endpoint: "https://mcp.clickup.com/oauth/authorize",
      token_endpoint: "https://mcp.clickup.com/oauth/token",
      registration_endpoint: "https://mcp.clickup.com/oauth/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      grant_types_supported: ["authorization_code"],
    },
  },
  token: { refreshes: false },
} satisfies Upstream as Upstream;
