import type { Upstream } from "../zoo.ts";

export default {
  title: "Close",
  habit: "Three hosts; endpoints that end with a slash; offline_access is asked for by name",
  sources: [
    { url: "https://help.close.com/docs/mcp-server", date: "2026-09-30" },
    { url: "https://api.close.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
  to: "https://mcp.close.com/mcp",
  unauthorized: {
    status: 401,
    headers: {
      "www-authenticate":
        'Bearer resource_metadata="https://mcp.close.com/.well-known/oauth-protected-resource"',
    },
  },
  documents: {
    "https://mcp.close.com/.well-known/oauth-protected-resource": {
      resource: "https://mcp.close.com/",
      authorization_servers: ["https://api.close.com"],
      scopes_supported: ["mcp.read", "mcp.write_safe", "offline_access"],
    },
    "https://api.close.com/.well-known/oauth-authorization-server": {
      issuer: "https://api.close.com",
      authorization_endpoint: "https://app.close.com/oauth2/authorize/",
      token_endpoint: "https://api.close.com/oauth2/token/",
      registration_endpoint: "https://api.close.com/oauth2/register/",
      token_endpoint_auth_methods_supported: ["none", "client_secret_basic", "client_secret_post"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://api.close.com/oauth2/revoke/",
    },
  },
  authorization: { wants: { scope: "mcp.read mcp.write_safe offline_access" } },
} satisfies Upstream as Upstream;
