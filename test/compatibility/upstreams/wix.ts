import type { Upstream } from "../catalog.ts";

export default {
  title: "Wix",
  habit:
    "One scope, offline_access; one metadata document for the endpoint, another at the root for its older endpoint",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/8ac9c68ce886eeb1d9289c22f3269b171e2549c2/tests/fixtures/oauth/mcp/wix.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/clout2buy/Ares/blob/7ff9cf317834d4a83a42b89e5587af8321e81930/tests/fixtures/oauth/idp/wix.prm.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/wix/blob/8980a0d257e3168f58a0e4f65fa680fab8fd6b31/well-known/wix-mcp-oauth-authorization-server.json",
      date: "2026-09-19",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.wix.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer realm="OAuth", error="invalid_token", error_description="Missing or invalid access token", resource_metadata="https://mcp.wix.com/.well-known/oauth-protected-resource/mcp"',
    },
  },
  documents: {
    "https://mcp.wix.com/.well-known/oauth-protected-resource/mcp": {
      resource: "https://mcp.wix.com/mcp",
      authorization_servers: ["https://mcp.wix.com"],
      scopes_supported: ["offline_access"],
    },
    "https://mcp.wix.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.wix.com",
      authorization_servers: ["https://mcp.wix.com"],
      scopes_supported: ["offline_access"],
    },
    "https://mcp.wix.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.wix.com",
      authorization_endpoint: "https://mcp.wix.com/authorize",
      token_endpoint: "https://mcp.wix.com/token",
      registration_endpoint: "https://mcp.wix.com/register",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "none"],
      revocation_endpoint: "https://mcp.wix.com/token",
      code_challenge_methods_supported: ["plain", "S256"],
    },
  },
} satisfies Upstream as Upstream;
