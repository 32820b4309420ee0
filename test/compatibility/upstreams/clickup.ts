import type { Upstream } from "../catalog.ts";

export default {
  title: "ClickUp",
  habit:
    "Issues no refresh tokens, so the user consents again when the token expires; sends iss; non-standard metadata members",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/clickup.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/clickup/blob/02ce65e8ba21ce3dcf86b268a74bed3217873149/well-known/clickup-mcp-oauth-authorization-server.json",
      date: "2026-09-17",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.clickup.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="MCP Server", error="invalid_token", error_description="Bearer token required", resource_metadata="https://mcp.clickup.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.clickup.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.clickup.com/mcp",
      resource_name: "ClickUp MCP Server",
      resource_type: "api",
      resource_owner: "ClickUp",
      resource_owner_url: "https://mcp.clickup.com",
      resource_server_origin: "https://api.clickup.com",
      authorization_servers: ["https://mcp.clickup.com"],
      scopes_supported: ["read", "write"],
      bearer_methods_supported: ["header"],
      resource_indicators_supported: true,
    },
    "https://mcp.clickup.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.clickup.com",
      authorization_endpoint: "https://mcp.clickup.com/oauth/authorize",
      token_endpoint: "https://mcp.clickup.com/oauth/token",
      registration_endpoint: "https://mcp.clickup.com/oauth/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code"],
      token_endpoint_auth_methods_supported: ["none"],
      scopes_supported: ["read", "write"],
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      resource_indicators_supported: true,
      mcp_authorization_spec_version: "2026-07-28",
      mcp_server_capabilities: ["task_management", "document_management", "chat"],
    },
  },
  token: {
    refreshes: false,
  },
} satisfies Upstream as Upstream;
