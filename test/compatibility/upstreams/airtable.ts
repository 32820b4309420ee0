import type { Upstream } from "../zoo.ts";

export default {
  title: "Airtable",
  habit: "An issuer with two path segments on another host; refresh tokens are good once",
  sources: [
    { url: "https://airtable.com/developers/web/api/oauth-reference", date: "2026-09-30" },
    { url: "https://mcp.airtable.com/.well-known/oauth-protected-resource", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.airtable.com/mcp",
  documents: {
    "https://mcp.airtable.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.airtable.com/mcp",
      authorization_servers: ["https://airtable.com/oauth2/v1"],
      scopes_supported: [
        "data.records:read",
        "data.records:write",
        "schema.bases:read",
        "workspacesAndBases:read",
      ],
    },
    "https://airtable.com/.well-known/oauth-authorization-server/oauth2/v1": {
      issuer: "https://airtable.com/oauth2/v1",
      authorization_endpoint: "https://airtable.com/oauth2/v1/authorize",
      token_endpoint: "https://airtable.com/oauth2/v1/token",
      registration_endpoint: "https://airtable.com/oauth2/v1/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      client_id_metadata_document_supported: true,
    },
  },
  token: {
    first: {
      access_token: "$access_token",
      refresh_token: "$refresh_token",
      token_type: "Bearer",
      scope: "data.records:read data.records:write",
      expires_in: 3600,
      refresh_expires_in: 5184000,
    },
  },
} satisfies Upstream as Upstream;
