import type { Upstream } from "../catalog.ts";

export default {
  title: "Notion",
  habit:
    "A route with only the host, as in a gateway's documentation; one metadata document for the endpoint, another for the origin at the root; client id metadata documents; lists plain PKCE, too",
  sources: [
    {
      url: "https://github.com/pomerium/documentation/blob/2e485e8fb4bac5aa0ea4944ecf047289102c3968/content/docs/capabilities/mcp/mcp-upstream-oauth.mdx",
      date: "2026-11-29",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/notion.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/notion.prm.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/notion/blob/86bc561f956c3ffad7dd700bd762350343515001/well-known/notion-mcp-oauth-authorization-server.json",
      date: "2026-06-20",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.notion.com",
  path: "/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://mcp.notion.com/.well-known/oauth-protected-resource/mcp", error="invalid_token", error_description="Missing or invalid access token"',
    },
  },
  documents: {
    "https://mcp.notion.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.notion.com/mcp",
      authorization_servers: ["https://mcp.notion.com"],
      scopes_supported: ["default"],
      bearer_methods_supported: ["header"],
      resource_name: "Notion MCP (Beta)",
    },
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
      introspection_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
    },
  },
} satisfies Upstream as Upstream;
