import type { Upstream } from "../zoo.ts";

export default {
  title: "Cloudflare",
  habit: "No scopes anywhere; client id documents are said not to be supported",
  sources: [
    { url: "https://bindings.mcp.cloudflare.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    {
      url: "https://developers.cloudflare.com/agents/model-context-protocol/mcp-servers-for-cloudflare/",
      date: "2026-09-30",
    },
  ],
  looked: "2026-11-28",
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
    },
    "https://bindings.mcp.cloudflare.com/.well-known/oauth-authorization-server": {
      issuer: "https://bindings.mcp.cloudflare.com",
      authorization_endpoint: "https://bindings.mcp.cloudflare.com/oauth/authorize",
      token_endpoint: "https://bindings.mcp.cloudflare.com/token",
      registration_endpoint: "https://bindings.mcp.cloudflare.com/register",
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://bindings.mcp.cloudflare.com/token",
      client_id_metadata_document_supported: false,
    },
  },
} satisfies Upstream as Upstream;
