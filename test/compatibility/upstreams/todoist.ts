import type { Upstream } from "../zoo.ts";

export default {
  title: "Todoist",
  habit:
    "The MCP server is on another site than its authorization server; the token endpoint is called access_token",
  sources: [
    { url: "https://developer.todoist.com/api/v1/", date: "2026-09-30" },
    { url: "https://todoist.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://ai.todoist.net/mcp",
  documents: {
    "https://ai.todoist.net/.well-known/oauth-protected-resource/mcp": {
      resource: "https://ai.todoist.net/mcp",
      authorization_servers: ["https://todoist.com"],
      scopes_supported: ["data:read_write"],
    },
    "https://todoist.com/.well-known/oauth-authorization-server": {
      issuer: "https://todoist.com",
      authorization_endpoint: "https://todoist.com/oauth/authorize",
      token_endpoint: "https://todoist.com/oauth/access_token",
      registration_endpoint: "https://todoist.com/oauth/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://todoist.com/api/v1/revoke",
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
