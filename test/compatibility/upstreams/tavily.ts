import type { Upstream } from "../zoo.ts";

export default {
  title: "Tavily",
  habit:
    "An empty 401 that names scopes; an issuer with a slash at its end; public clients or signed assertions, no secrets",
  sources: [
    { url: "https://mcp.tavily.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://mcp.tavily.com/.well-known/oauth-protected-resource/mcp", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.tavily.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer scope="openid offline_access", resource_metadata="https://mcp.tavily.com/.well-known/oauth-protected-resource/mcp"',
    },
    body: "",
  },
  documents: {
    "https://mcp.tavily.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.tavily.com/mcp",
      authorization_servers: ["https://mcp.tavily.com/"],
      scopes_supported: ["openid", "offline_access"],
    },
    "https://mcp.tavily.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.tavily.com/",
      authorization_endpoint: "https://mcp.tavily.com/authorize",
      token_endpoint: "https://mcp.tavily.com/token",
      registration_endpoint: "https://mcp.tavily.com/register",
      token_endpoint_auth_methods_supported: ["none", "private_key_jwt"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://mcp.tavily.com/revoke",
      client_id_metadata_document_supported: true,
    },
  },
} satisfies Upstream as Upstream;
