import type { Upstream } from "../catalog.ts";

export default {
  title: "Todoist",
  habit:
    "The MCP server is on another site than its authorization server; the token endpoint is called access_token",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/todoist.json",
      date: "2026-10-01",
    },
  ],
  looked: "2026-11-29",
  to: "https://ai.todoist.net/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://ai.todoist.net/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://ai.todoist.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://ai.todoist.net/mcp",
      authorization_servers: ["https://todoist.com"],
      bearer_methods_supported: ["header"],
      scopes_supported: ["data:read_write"],
    },
    "https://todoist.com/.well-known/oauth-authorization-server": {
      issuer: "https://todoist.com",
      authorization_endpoint: "https://todoist.com/oauth/authorize",
      token_endpoint: "https://todoist.com/oauth/access_token",
      registration_endpoint: "https://todoist.com/oauth/register",
      revocation_endpoint: "https://todoist.com/api/v1/revoke",
      userinfo_endpoint: "https://todoist.com/api/v1/user",
      client_registration_types_supported: ["dynamic"],
      registration_types_supported: ["dynamic"],
      resource_parameter_supported: true,
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      scopes_supported: ["task:add", "data:read", "data:read_write", "data:delete", "project:delete"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
