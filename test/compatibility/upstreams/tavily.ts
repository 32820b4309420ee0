import type { Upstream } from "../catalog.ts";

export default {
  title: "Tavily",
  habit:
    "An empty 401 that names scopes; an issuer with a trailing slash; public clients or signed assertions, no secrets",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/dc7eb18ef38c313eadd851a20ddad7c525a86920/tests/fixtures/oauth/mcp/tavily.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/tavily/blob/418d45a72f4f02e8c457ded27f9989cb9897e94d/well-known/tavily-mcp-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.tavily.com/mcp/",
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
      bearer_methods_supported: ["header"],
    },
    "https://mcp.tavily.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.tavily.com/",
      authorization_endpoint: "https://mcp.tavily.com/authorize",
      token_endpoint: "https://mcp.tavily.com/token",
      registration_endpoint: "https://mcp.tavily.com/register",
      scopes_supported: ["openid", "offline_access"],
      response_types_supported: ["code"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["none", "private_key_jwt"],
      revocation_endpoint: "https://mcp.tavily.com/revoke",
      revocation_endpoint_auth_methods_supported: ["client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
      client_id_metadata_document_supported: true,
      authorization_response_iss_parameter_supported: true,
    },
  },
} satisfies Upstream as Upstream;
