import type { Upstream } from "../catalog.ts";

export default {
  title: "Netlify",
  habit: "A library's default paths (auth, token, reg); offline_access in its scopes, so consent is prompted",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/mcp/netlify.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/netlify/blob/9305bac2c1c07892f064e9565877795520fbf3fc/well-known/netlify-mcp-oauth-authorization-server.json",
      date: "2026-08-27",
    },
  ],
  looked: "2026-11-29",
  to: "https://netlify-mcp.netlify.app/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="MCP Server", resource_metadata="https://netlify-mcp.netlify.app/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://netlify-mcp.netlify.app/.well-known/oauth-protected-resource/mcp": {
      resource: "https://netlify-mcp.netlify.app/mcp",
      authorization_servers: ["https://netlify-mcp.netlify.app/"],
      scopes_supported: ["offline_access", "read", "write", "claudeai"],
      bearer_methods_supported: ["header"],
    },
    "https://netlify-mcp.netlify.app/.well-known/oauth-authorization-server": {
      issuer: "https://netlify-mcp.netlify.app/",
      authorization_endpoint: "https://netlify-mcp.netlify.app/oauth-server/auth",
      token_endpoint: "https://netlify-mcp.netlify.app/oauth-server/token",
      registration_endpoint: "https://netlify-mcp.netlify.app/oauth-server/reg",
      scopes_supported: ["offline_access", "read", "write", "claudeai"],
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["none", "client_secret_post", "client_secret_basic"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  authorization: {
    wants: {
      prompt: "consent",
    },
  },
} satisfies Upstream as Upstream;
