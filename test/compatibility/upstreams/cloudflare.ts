import type { Upstream } from "../catalog.ts";

export default {
  title: "Cloudflare",
  habit: "No scopes; states that client id metadata documents are not supported; sends iss",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/cloudflare-bindings.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/cloudflare/blob/e96701c3b3733e4d5b118213d05c98a235b0b841/well-known/cloudflare-observability-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://bindings.mcp.cloudflare.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", resource_metadata="https://bindings.mcp.cloudflare.com/.well-known/oauth-protected-resource/mcp"',
    },
    body: "",
  },
  documents: {
    "https://bindings.mcp.cloudflare.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://bindings.mcp.cloudflare.com/mcp",
      authorization_servers: ["https://bindings.mcp.cloudflare.com"],
      bearer_methods_supported: ["header"],
    },
    "https://bindings.mcp.cloudflare.com/.well-known/oauth-authorization-server": {
      issuer: "https://bindings.mcp.cloudflare.com",
      authorization_endpoint: "https://bindings.mcp.cloudflare.com/oauth/authorize",
      token_endpoint: "https://bindings.mcp.cloudflare.com/token",
      registration_endpoint: "https://bindings.mcp.cloudflare.com/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://bindings.mcp.cloudflare.com/token",
      code_challenge_methods_supported: ["S256"],
      authorization_response_iss_parameter_supported: true,
      client_id_metadata_document_supported: false,
    },
  },
} satisfies Upstream as Upstream;
