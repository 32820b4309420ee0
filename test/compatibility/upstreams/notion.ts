import type { Upstream } from "../zoo.ts";

export default {
  title: "Notion",
  habit:
    "Its protected resource is the origin, above the endpoint's path; client id documents; plain PKCE is listed, too",
  sources: [
    { url: "https://mcp.notion.com/.well-known/oauth-authorization-server", date: "2026-09-20" },
    { url: "https://mcp.notion.com/.well-known/oauth-protected-resource", date: "2026-09-20" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.notion.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.notion.com/.well-known/oauth-protected-resource/mcp", error="invalid_token"',
    },
  },
  documents: {
    "https://mcp.notion.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.notion.com",
      authorization_servers: ["https://mcp.notion.com"],
      scopes_supported: ["default"],
      bearer_methods_supported: ["header"],
      resource_name: "Notion MCP (Beta)",
    },
    "https://mcp.notion.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.notion.com",
      authorization_endpoint: "https://mcp.notion.com/authorize",
      token_endpoint: "https://mcp.notion.com/token",
      registration_endpoint: "https://mcp.notion.com/register",
      scopes_supported: ["default"],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
      ],
      authorization_grant_profiles_supported: ["urn:ietf:params:oauth:grant-profile:id-jag"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.notion.com/token",
      code_challenge_methods_supported: ["plain", "S256"],
      client_id_metadata_document_supported: true,
      introspection_endpoint: "https://mcp.notion.com/introspect",
    },
  },
} satisfies Upstream as Upstream;
