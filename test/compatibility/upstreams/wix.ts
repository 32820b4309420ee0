import type { Upstream } from "../zoo.ts";

export default {
  title: "Wix",
  habit: "Offers one scope, offline_access; the resource is the origin",
  sources: [
    { url: "https://mcp.wix.com/.well-known/oauth-authorization-server", date: "2026-09-30" },
    { url: "https://github.com/wix/wix-mcp", date: "2026-09-30" },
  ],
  looked: "2026-11-28",
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
      resource: "https://mcp.wix.com",
      authorization_servers: ["https://mcp.wix.com"],
      scopes_supported: ["offline_access"],
    },
    "https://mcp.wix.com/.well-known/oauth-authorization-server": {
      issuer: "https://mcp.wix.com",
      authorization_endpoint: "https://mcp.wix.com/authorize",
      token_endpoint: "https://mcp.wix.com/token",
      registration_endpoint: "https://mcp.wix.com/register",
      token_endpoint_auth_methods_supported: ["none"],
      code_challenge_methods_supported: ["S256"],
      revocation_endpoint: "https://mcp.wix.com/token",
    },
  },
} satisfies Upstream as Upstream;
