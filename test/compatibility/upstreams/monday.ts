import type { Upstream } from "../zoo.ts";

export default {
  title: "monday.com",
  habit: "An issuer with a path; well-known of the MCP host redirects to another host; secrets only",
  sources: [
    { url: "https://auth.monday.com/.well-known/oauth-authorization-server/mcp", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.monday.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", error="invalid_token", error_description="Missing or invalid access token", resource_metadata="https://mcp.monday.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.monday.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.monday.com/mcp",
      authorization_servers: ["https://auth.monday.com/mcp"],
      scopes_supported: [
        "me:read",
        "boards:read",
        "boards:write",
        "items:read",
        "items:write",
        "docs:read",
        "docs:write",
        "updates:read",
        "updates:write",
        "workspaces:read",
        "users:read",
        "account:read",
      ],
    },
    "https://mcp.monday.com/.well-known/oauth-authorization-server": {
      answer: {
        status: 302,
        headers: { location: "https://auth.monday.com/.well-known/oauth-authorization-server" },
        body: "",
      },
    },
    "https://auth.monday.com/.well-known/oauth-authorization-server/mcp": {
      issuer: "https://auth.monday.com/mcp",
      authorization_endpoint: "https://auth.monday.com/oauth2/authorize",
      token_endpoint: "https://auth.monday.com/oauth_ms/oauth/token",
      registration_endpoint: "https://auth.monday.com/oauth_ms/oauth/register",
      token_endpoint_auth_methods_supported: ["client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://auth.monday.com/oauth_ms/oauth/revoke",
    },
  },
} satisfies Upstream as Upstream;
