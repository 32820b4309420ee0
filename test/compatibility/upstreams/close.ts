import type { Upstream } from "../catalog.ts";

export default {
  title: "Close",
  habit:
    "Three hosts; the resource metadata names the issuer with a trailing slash, its own metadata without; endpoints with a trailing slash; offline_access must be requested",
  sources: [
    {
      url: "https://github.com/clout2buy/Ares/blob/f3ceaa6f29495e8aa4c38439cf50a236fd8222a2/tests/fixtures/oauth/mcp/close.json",
      date: "2026-10-01",
    },
    {
      url: "https://github.com/api-evangelist/close/blob/ef11761c19cc66045b5284aac0b50b0fd1911167/well-known/close-well-known.yml",
      date: "2026-08-13",
    },
  ],
  looked: "2026-11-29",
  to: "https://mcp.close.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer error="invalid_token", error_description="Authentication required", resource_metadata="https://mcp.close.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.close.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.close.com/",
      authorization_servers: ["https://api.close.com/"],
      scopes_supported: ["mcp.read", "mcp.write_destructive", "mcp.write_safe", "offline_access"],
      bearer_methods_supported: ["header"],
    },
    "https://api.close.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.close.com",
      authorization_endpoint: "https://app.close.com/oauth2/authorize/",
      token_endpoint: "https://api.close.com/oauth2/token/",
      registration_endpoint: "https://api.close.com/oauth2/register/",
      revocation_endpoint: "https://api.close.com/oauth2/revoke/",
      response_types_supported: ["code"],
      response_modes_supported: ["query"],
      grant_types_supported: ["authorization_code", "refresh_token"],
      token_endpoint_auth_methods_supported: ["none", "client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
    },
  },
  authorization: {
    wants: {
      scope: "mcp.read mcp.write_destructive mcp.write_safe offline_access",
    },
  },
} satisfies Upstream as Upstream;
