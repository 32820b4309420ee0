import type { Upstream } from "../zoo.ts";

export default {
  title: "Supabase",
  habit: "Registers confidential clients only, at another place than its OAuth endpoints",
  sources: [
    { url: "https://supabase.com/docs/guides/getting-started/mcp", date: "2026-09-30" },
    { url: "https://api.supabase.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.supabase.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.supabase.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.supabase.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.supabase.com/mcp",
      authorization_servers: ["https://api.supabase.com"],
      scopes_supported: [
        "organizations:read",
        "projects:read",
        "projects:write",
        "database:read",
        "database:write",
        "analytics:read",
        "edge_functions:read",
        "edge_functions:write",
        "storage:read",
        "environment:read",
      ],
    },
    "https://api.supabase.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.supabase.com",
      authorization_endpoint: "https://api.supabase.com/v1/oauth/authorize",
      token_endpoint: "https://api.supabase.com/v1/oauth/token",
      registration_endpoint: "https://api.supabase.com/platform/oauth/apps/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      grant_types_supported: ["authorization_code", "refresh_token"],
    },
  },
} satisfies Upstream as Upstream;
