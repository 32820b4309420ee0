import type { Upstream } from "../catalog.ts";

export default {
  title: "Supabase",
  habit: "Registers confidential clients only, at another location than its OAuth endpoints",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/supabase.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/supabase/blob/cbdb07857e91ebf07ff7971d04e58c495c3e1fc2/well-known/supabase-api-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.supabase.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_request", error_description="No access token was provided in this request", resource_metadata="https://mcp.supabase.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.supabase.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.supabase.com/mcp",
      bearer_methods_supported: ["header"],
      authorization_servers: ["https://api.supabase.com"],
      resource_name: "Supabase MCP (Beta)",
      scopes_supported: [
        "organizations:read",
        "projects:read",
        "projects:write",
        "database:write",
        "database:read",
        "analytics:read",
        "secrets:read",
        "edge_functions:read",
        "edge_functions:write",
        "environment:read",
        "environment:write",
        "storage:read",
        "storage:write",
      ],
    },
    "https://api.supabase.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.supabase.com",
      authorization_endpoint: "https://api.supabase.com/v1/oauth/authorize",
      token_endpoint: "https://api.supabase.com/v1/oauth/token",
      registration_endpoint: "https://api.supabase.com/platform/oauth/apps/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256", "plain"],
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
    },
  },
} satisfies Upstream as Upstream;
