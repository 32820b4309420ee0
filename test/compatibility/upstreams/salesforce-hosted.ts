import type { Upstream } from "../zoo.ts";

export default {
  title: "Salesforce, the hosted MCP server",
  habit:
    "Its metadata, at the endpoint's path, is of the sign-in host; no registration; rotates refresh tokens where the org says so",
  sources: [
    { url: "https://github.com/forcedotcom/mcp-hosted/issues/44", date: "2026-08-13" },
    { url: "https://github.com/anthropics/claude-ai-mcp/issues/171", date: "2026-04-20" },
    { url: "https://github.com/dust-tt/dust/pull/20853", date: "2026-01-30" },
  ],
  looked: "2026-11-29",
  to: "https://api.salesforce.com/platform/mcp/v1/platform/sobject-reads",
  settings: {
    expected_issuer: "https://login.salesforce.com",
    upstream_oauth2: {
      client_id: "3MVG9.external-client-app",
      client_secret: "salesforce-hosted-secret",
      scopes: ["mcp_api", "refresh_token"],
    },
  },
  documents: {
    "https://api.salesforce.com/.well-known/oauth-protected-resource/platform/mcp/v1/platform/sobject-reads":
      {
        resource: "https://api.salesforce.com/platform/mcp/v1/platform/sobject-reads",
        authorization_servers: ["https://api.salesforce.com:443/platform/mcp/v1/platform/sobject-reads"],
      },
    "https://api.salesforce.com/.well-known/oauth-authorization-server/platform/mcp/v1/platform/sobject-reads":
      {
        issuer: "https://login.salesforce.com",
        authorization_endpoint: "https://login.salesforce.com/services/oauth2/authorize-mcp",
        token_endpoint: "https://login.salesforce.com/services/oauth2/token-mcp",
        code_challenge_methods_supported: ["S256"],
      },
  },
  guessed: ["documents (endpoints)"],
} satisfies Upstream as Upstream;
