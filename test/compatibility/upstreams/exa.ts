import type { Upstream } from "../zoo.ts";

export default {
  title: "Exa",
  habit: "Answers without a token, too: only the resource metadata says that there is more with one",
  sources: [
    { url: "https://mcp.exa.ai/.well-known/oauth-protected-resource", date: "2026-09-30" },
    { url: "https://auth.exa.ai/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.exa.ai/mcp",
  anonymous: true,
  documents: {
    "https://mcp.exa.ai/.well-known/oauth-protected-resource": {
      resource: "https://mcp.exa.ai/mcp",
      authorization_servers: ["https://auth.exa.ai"],
      scopes_supported: ["mcp:tools"],
    },
    "https://auth.exa.ai/.well-known/oauth-authorization-server": {
      issuer: "https://auth.exa.ai",
      authorization_endpoint: "https://auth.exa.ai/oauth/authorize",
      token_endpoint: "https://auth.exa.ai/api/oauth/token",
      registration_endpoint: "https://auth.exa.ai/api/oauth/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://auth.exa.ai/api/oauth/revoke",
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
